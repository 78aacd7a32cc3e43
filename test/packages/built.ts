/** Waits before each file of tests of the published files until they exist. */
import { whenMade } from '../support/meanwhile.ts';

await whenMade('packages');
