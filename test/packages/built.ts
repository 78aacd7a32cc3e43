/** Before each file of tests of what is published: that is there. */
import { whenMade } from '../support/meanwhile.ts';

await whenMade('packages');
