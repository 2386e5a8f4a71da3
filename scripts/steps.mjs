// Running tools: one quiet line for a step that worked, all of its output for one that failed.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { readJson, root } from './workspace.mjs';

/** A step that failed, with what its tool printed. */
export class StepError extends Error {
  constructor(message, output = '') {
    super(message);
    this.output = output;
  }
}

/** Runs a program to its end and gives its output; throws a StepError on any other end than success. */
export function run(command, args, { cwd = root, env = {}, shell = false } = {}) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    const child = spawn(command, args, {
      cwd,
      shell,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => reject(new StepError(`${command} could not be started: ${error.message}`)));
    child.on('close', (status, signal) => {
      const output = Buffer.concat(chunks).toString();
      if (status === 0) resolve(output);
      else reject(new StepError(signal ? `ended by ${signal}` : `exit status ${status}`, output));
    });
  });
}

/** Runs the command line of a package in the root's node_modules, without a shell. */
export function runTool(name, args, options) {
  const [packageName, command = packageName] = name.split(':');
  const folder = join(root, 'node_modules', packageName);
  const { bin } = readJson(join(folder, 'package.json'));
  const script = typeof bin === 'string' ? bin : bin[command];
  return run(process.execPath, [join(folder, script), ...args], options);
}

/** The version of pnpm that package.json asks for, fetched by npx where it is not there yet. */
export function runPnpm(args, options) {
  const version = readJson(join(root, 'package.json')).packageManager.split('+')[0];
  const windows = process.platform === 'win32';
  // CI=true: pnpm must not stop to ask.
  return run('npx', ['-y', version, ...args], { ...options, shell: windows, env: { CI: 'true' } });
}

/** Runs one step and prints its line on stderr. A step that returns false had nothing to do: no line. */
export async function step(name, action) {
  const start = performance.now();
  try {
    const result = await action();
    if (result !== false) printLine('ok', name, start, typeof result === 'string' ? '' : result?.note);
    return result;
  } catch (error) {
    printLine('FAILED', name, start, error.message);
    const output = error instanceof StepError ? error.output : error.stack;
    if (output) console.error(`\n${output.trimEnd()}\n`);
    throw error;
  }
}

function printLine(state, name, start, note) {
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.error(`${state.padEnd(6)} ${name.padEnd(22)} ${seconds.padStart(6)} s${note ? `  ${note}` : ''}`);
}

/** Runs actions, at most `width` at a time, and returns those errors that came up. */
export async function inLanes(width, actions) {
  const queue = [...actions];
  const errors = [];
  const lane = async () => {
    for (let action = queue.shift(); action; action = queue.shift()) {
      await action().catch((error) => errors.push(error));
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  return errors;
}
