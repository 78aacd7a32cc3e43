// slow.mjs MS PORT=HOST:PORT… - connections to other hosts with this delay, in both directions.
import { connect, createServer } from 'node:net';

const [, , ms, ...lines] = process.argv;

function pass(from, to) {
  from.setNoDelay(true);
  from.on('error', () => from.destroy());
  from.on('data', (bytes) => setTimeout(() => to.write(bytes), Number(ms)));
  from.on('close', () => setTimeout(() => to.destroy(), Number(ms)));
}

for (const line of lines) {
  const [port, host, target] = line.split(/[=:]/);
  createServer((near) => {
    const far = connect(Number(target), host);
    pass(near, far);
    pass(far, near);
  }).listen(Number(port));
}
