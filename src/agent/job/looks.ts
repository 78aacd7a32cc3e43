/** The looks at all running jobs, in one rhythm. */
import { LOOK_MS } from '../../core/job/convergence.ts';

/** Calls `look` again and again, until it is disposed. */
export type Looks = (look: () => void) => Disposable;

/** The process may end between two looks. */
export function everyTwoSeconds(look: () => void): Disposable {
  const timer = setInterval(look, LOOK_MS);
  timer.unref();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
