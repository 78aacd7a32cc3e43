/** `blockjob check`: asks whether an operation of another tool is allowed now. */
import { Argument, Command } from 'commander';
import { errorOfStatus, Operation } from '../../client/index.ts';
import { defined } from '../../lib/defined.ts';
import { EXIT } from '../exit.ts';
import type { Run } from '../run.ts';

const OPERATIONS = {
  save: Operation.OPERATION_SAVE,
  snapshot: Operation.OPERATION_SNAPSHOT,
  revert: Operation.OPERATION_REVERT,
  detach: Operation.OPERATION_DETACH,
  resize: Operation.OPERATION_RESIZE,
  migrate: Operation.OPERATION_MIGRATE,
};

export function checkCommand(run: Run): Command {
  const command = new Command('check')
    .description('ask whether a VM may be saved, snapshotted, migrated …, or a disk detached or resized now')
    .argument('<domain>', 'the VM, by name or UUID')
    .addArgument(new Argument('<operation>', 'the operation').choices(Object.keys(OPERATIONS)))
    .argument('[disk]', 'the disk; required for detach and resize, optional for snapshot');
  return command.action(async (domain: string, operation: keyof typeof OPERATIONS, disk?: string) => {
    await run(command, 'reads', async (session) => {
      const request = { domain, operation: OPERATIONS[operation], ...defined({ disk }) };
      const { allowed, reasons, blockingJobs } = await session.client.checkOperation(request, {
        signal: session.signal,
      });
      const what = disk === undefined ? domain : `${domain}/${disk}`;
      const why = reasons.map(errorOfStatus).map(({ reason, text }) => ({ reason, text }));
      const check = { domain, operation, disk, allowed, reasons: why, blockingJobs: blockingJobs.map(({ id }) => id) };
      const verdict = allowed ? 'may be done now' : 'may not be done now';
      session.tell({ type: 'check', check }, [
        `${what}: ${operation} ${verdict}`,
        ...why.map(({ reason, text }) => `  ${reason}: ${text}`),
      ]);
      return allowed ? EXIT.done : EXIT.refused;
    });
  });
}
