for (let i = 0; i < 256; i++) process.stdout.write('ok 1\n'.repeat(200000));
