/** A wait that somebody else can end early. */
export class WakeablePause {
  private end: (() => void) | null = null;

  /** Resolves after that many milliseconds, or when woken; one at a time. */
  async wait(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.end = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.end = null;
  }

  /** Nothing where nobody waits. */
  wake(): void {
    this.end?.();
  }
}
