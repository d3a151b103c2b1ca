// Tells Monaco where its workers are. Imported before anything that may load Monaco.

// Replaced by the build with the names of the bundles.
const workers = WORKERS;

globalThis.MonacoEnvironment = {
  getWorker: (_id, label) => new Worker(workers[label] ?? workers.editor, { name: label }),
};
