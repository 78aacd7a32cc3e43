/** Settings of V8's heap. */
import { setFlagsFromString } from 'node:v8';

/** How many times as large the young generation becomes when much of it lasts. This is V8's own value. */
let growth = 2;

/**
 * Does work that makes much lasting data. V8 would take that for a reason to make its young generation eight times as
 * large, and the process would keep those fifty megabytes for good.
 */
export async function withSmallYoungSpace<T>(work: () => Promise<T>): Promise<T> {
  setGrowth(1);
  try {
    return await work();
  } finally {
    setGrowth(growth);
  }
}

/** From now on the young generation keeps its size: lasting data will go on to be made. May be repeated. */
export function keepYoungSpace(): void {
  growth = 1;
  setGrowth(growth);
}

function setGrowth(factor: number): void {
  setFlagsFromString(`--semi-space-growth-factor=${factor}`);
}
