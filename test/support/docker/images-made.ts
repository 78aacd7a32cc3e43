/** Before each file of tests with containers: the images are there, or it is known that they will not be. */
import { whenMade } from '../meanwhile.ts';

// Whether they are needed, and what it means that they are not there, the tests know.
await whenMade('images').catch(() => undefined);
