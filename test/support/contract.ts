/** The contract with its comments, which the generated files do not have. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { BUF } from './buf.ts';
import { run, testDir } from './real-qemu/qemu.ts';
import { REPOSITORY } from './service/service.ts';

/** The comment of each field of a top-level message, in one line, by its full name. */
export async function commentsOfFields(): Promise<ReadonlyMap<string, string>> {
  await using dir = await testDir('bj-contract-');
  const built = join(dir.path, 'contract.binpb');
  await run('sh', ['-c', 'cd "$1" && exec "$2" build --path proto/blockjob -o "$3"', 'sh', REPOSITORY, BUF, built]);
  const { file: files } = fromBinary(FileDescriptorSetSchema, await readFile(built));
  return new Map(
    files.flatMap((file) =>
      file.messageType.flatMap((message, at) =>
        message.field.map(({ name }, index) => {
          // Fields (2) of a message (4), by their positions in the file.
          const path = [4, at, 2, index].join();
          const found = file.sourceCodeInfo?.location.find((one) => one.path.join() === path)?.leadingComments ?? '';
          return [`${file.package}.${message.name}.${name}`, found.replaceAll(/\s+/g, ' ')] as const;
        }),
      ),
    ),
  );
}
