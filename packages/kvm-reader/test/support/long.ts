export { LONG, runs } from '../../../minidump-core/test/runs.js';
