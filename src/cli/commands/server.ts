/** `blockjob server`: the program that answers, and the name by which it knows the caller. */
import { Command } from 'commander';
import { ServerInfo } from '../../client/index.ts';
import { EXIT } from '../exit.ts';
import type { Run } from '../run.ts';
import { modeName } from '../show/names.ts';

export function serverCommand(run: Run): Command {
  const command = new Command('server').description(
    'show which program answers, its version and start time, and your name there',
  );
  return command.action(async () => {
    await run(command, 'reads', async (session) => {
      const { server } = await session.client.getServerInfo({ signal: session.signal });
      if (server === undefined) throw new Error('an answer without a server');
      session.tell({ type: 'server', server: ServerInfo.toJSON(server) }, serverInWords(server));
      return EXIT.done;
    });
  });
}

function serverInWords({ version, build, mode, host, startTime, caller }: ServerInfo): string[] {
  return [
    `Version:  ${version} (${build})`,
    `Mode:     ${modeName(mode).toLowerCase()}`,
    `Host:     ${host}`,
    `Since:    ${startTime?.toISOString() ?? 'unknown'}`,
    `You are:  ${caller === '' ? 'unknown, without a certificate' : caller}`,
  ];
}
