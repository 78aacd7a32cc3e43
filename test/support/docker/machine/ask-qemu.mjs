// ask-qemu.mjs NAME COMMAND [ARGUMENTS] - sends one QMP command to a QEMU of this host, through the socket of the
// tests; prints its result as JSON.
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

const [, , name, execute, text = '{}'] = process.argv;
const socket = connect(`/run/admin/${name}.sock`);
const ask = (command) => socket.write(`${JSON.stringify(command)}\n`);
for await (const line of createInterface({ input: socket })) {
  const message = JSON.parse(line);
  if (message.QMP !== undefined) ask({ execute: 'qmp_capabilities', id: 0 });
  if (message.id === 0) ask({ execute, arguments: JSON.parse(text), id: 1 });
  if (message.id !== 1) continue;
  process.stdout.write(JSON.stringify(message.return ?? message.error));
  process.exit(message.error === undefined ? 0 : 1);
}
