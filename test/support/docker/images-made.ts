/** Before each file of tests with containers: waits until the images exist, or cannot be made. */
import { whenMade } from '../meanwhile.ts';

// The tests know whether they need the images, and what to do without them.
await whenMade('images').catch(() => undefined);
