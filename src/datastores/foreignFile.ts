/** How a file is opened that somebody outside named or may have replaced: never through a link, and never waiting. */
import { constants } from 'node:fs';

/** Without O_NONBLOCK a pipe holds whoever opens it until somebody writes: one of the few threads that all files are read on. */
export const foreignFileFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;
