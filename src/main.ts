process.stdout.write('blockjobd\n');
