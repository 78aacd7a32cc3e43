#!/usr/bin/env python3
"""check-disk.py - does an image hold everything that was acknowledged to the test guest?

  check-disk.py IMAGE --manifest d1.json [--acked guest.log] [--format qcow2] [--live] [--until TEXT]
                [--allow-newer] [--allow-errors] [--json]
  check-disk.py --nbd SOCKET[:EXPORT] --manifest d1.json ...      an NBD export instead of a file
  check-disk.py --self-test                                      prove that the check can fail

Each 4 KiB block must be, byte for byte, the last acknowledged write to it (or prefill, or zeroes),
or an operation that was under way when the log ends (at most one unflushed batch per stream).
Everything else is counted by kind:
  stale      an older generation of the right block          missing   zeroes where data must be
  torn       sectors of different origin in one block        garbage   not a block of this rig
  misplaced  a whole block of this disk, elsewhere           foreign   a block of another disk
  residue    data where zeroes must be                       newer     later than the log can explain
  outside    data beyond the end of the source               short     the image is too small
Exit: 0 all right; 1 something is wrong; 2 could not check.
--until stops at the first log line starting with TEXT (state at a mark); with --allow-newer, what the
guest did after it (writes, discards, zeroes) is right, too.  The guest's own bad reads (V lines) fail the check too; I/O errors it saw
(E lines) fail it unless --allow-errors.
"""
import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from gwlib import BLK, MAGIC, ZERO, Image, Nbd, block, gen_of, gen_str, load_state

BAD = ('stale', 'missing', 'torn', 'garbage', 'misplaced', 'foreign', 'residue', 'newer', 'outside', 'short')


def classify(st, b, data, sure):
    magic, ident, blk, gen = struct.unpack_from('<4Q', data)
    if data == ZERO:
        return 'missing', 0
    if magic != MAGIC:
        heads = [data[i:i + 8] for i in range(0, BLK, 512)]
        return ('torn' if struct.pack('<Q', MAGIC) in heads else 'garbage'), 0
    if data != block(ident >> 32, blk, gen):
        return 'torn', gen
    if ident >> 32 != st.disk:
        return 'foreign', gen
    if blk != b:
        return 'misplaced', gen
    if not sure:
        return 'residue', gen
    return ('newer' if gen > sure else 'stale'), gen


def check(img, st, show=10):
    n = dict.fromkeys(BAD, 0)
    n.update(blocks=st.blocks, data=0, zero=0, in_flight=0)
    shown = 0
    step = 512
    if img.size < st.blocks * BLK:
        n['short'] = st.blocks - img.size // BLK
    for b0 in range(0, min(st.blocks, img.size // BLK), step):
        cnt = min(step, st.blocks - b0, img.size // BLK - b0)
        buf = img.read(b0 * BLK, cnt * BLK)
        for i in range(cnt):
            b, data = b0 + i, buf[i * BLK:(i + 1) * BLK]
            sure = st.sure[b]
            if data == (block(st.disk, b, sure) if sure else ZERO):
                n['data' if sure else 'zero'] += 1
                continue
            also = st.maybe.get(b)
            if also and (0 in also and data == ZERO or
                         any(g and data == block(st.disk, b, g) for g in also)):
                n['in_flight'] += 1
                continue
            kind, gen = classify(st, b, data, sure)
            n[kind] += 1
            if shown < show:
                shown += 1
                print('block %d: %s: found %s, want %s' % (b, kind, gen_str(gen), gen_str(sure)), file=sys.stderr)
    for off in range(st.blocks * BLK, img.size, 1 << 20):
        if any(img.read(off, min(1 << 20, img.size - off))):
            n['outside'] += 1
    n['lost'] = sum(n[k] for k in BAD)
    return n


def self_test():
    """Build a disk from a made-up log, break it in every way the check knows, see each one found."""
    d = tempfile.mkdtemp(prefix='gw-selftest-')
    try:
        blocks, epoch = 1024, 1700000000
        log = os.path.join(d, 'log')
        man = os.path.join(d, 'd1.json')
        with open(man, 'w') as f:
            json.dump({'disk': 1, 'blocks': blocks, 'fill': [[0, 768, 1]]}, f)
        phase = 'off=0 len=512 seq=0 bs=2 dbs=4 vary=1 pw=80 pd=10 batch=8 seed=abcdef rate=0'
        with open(log, 'w') as f:
            f.write('B %d t=0\nP 1 0 1 %s\n' % (epoch, phase))
            f.write(''.join('A 1 0 %d\n' % s for s in range(8, 401, 8)) + 'A 1 0 40')    # cut short
        st = load_state(man, log)

        def write(path, fmt, content):
            img = Image(path, fmt, write=True)
            for b, data in content.items():
                img.write(b * BLK, data)
            img.close()
        good = {b: block(1, b, st.sure[b]) if st.sure[b] else ZERO for b in range(blocks)}
        raw, base, top = (os.path.join(d, x) for x in ('a.raw', 'base.qcow2', 'top.qcow2'))
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'raw', raw, str(blocks * BLK)], check=True)
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', base, str(blocks * BLK)], check=True)
        write(raw, 'raw', good)
        write(base, 'qcow2', {b: x for b, x in good.items() if b % 3})        # and one half in an overlay
        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top], check=True)
        write(top, 'qcow2', {b: x for b, x in good.items() if not b % 3})

        fresh = next(b for b in range(512) if st.sure[b] >> 32 and b not in st.maybe)      # written by the guest
        older = gen_of(epoch, 0, (st.sure[fresh] & 0xfffffff) - 1)
        zero = next(b for b in range(512) if not st.sure[b] and b not in st.maybe)
        late = next(b for b in range(512) if st.maybe.get(b, {0}) - {0})              # in the open batch
        cases = [('clean', {}, None), ('in flight', {late: block(1, late, max(st.maybe[late]))}, None),
                 ('stale', {fresh: block(1, fresh, older)}, 'stale'),
                 ('back to prefill', {fresh: block(1, fresh, 1)}, 'stale'),
                 ('missing', {fresh: ZERO}, 'missing'),
                 ('missing prefill', {700: ZERO}, 'missing'),
                 ('torn', {fresh: good[fresh][:2048] + block(1, fresh, older)[2048:]}, 'torn'),
                 ('torn, first sector lost', {fresh: ZERO[:512] + good[fresh][512:]}, 'torn'),
                 ('one bit', {fresh: good[fresh][:3000] + bytes([good[fresh][3000] ^ 4]) + good[fresh][3001:]}, 'torn'),
                 ('sectors swapped', {fresh: good[fresh][512:1024] + good[fresh][:512] + good[fresh][1024:]}, 'torn'),
                 ('misplaced', {fresh: good[700]}, 'misplaced'),
                 ('foreign', {fresh: block(2, fresh, st.sure[fresh])}, 'foreign'),
                 ('garbage', {fresh: b'x' * BLK}, 'garbage'),
                 ('residue', {zero: block(1, zero, 1)}, 'residue'),
                 ('data in a hole', {800: block(1, 800, 1)}, 'residue'),
                 ('newer', {fresh: block(1, fresh, gen_of(epoch, 0, 5000))}, 'newer')]
        failed = 0
        for path, fmt in ((raw, 'raw'), (top, 'qcow2')):
            for name, change, want in cases:
                write(path, fmt, change)
                img = Image(path, fmt)
                n = check(img, st, show=0)
                img.close()
                write(path, fmt, {b: good[b] for b in change})
                got = [k for k in BAD if n[k]]
                ok = got == ([want] if want else []) and n['lost'] == (len(change) if want else 0)
                failed += not ok
                print('%-4s %-6s %-24s -> %s' % ('ok' if ok else 'FAIL', fmt, name, ','.join(got) or 'no loss'))
        os.truncate(raw, (blocks - 1) * BLK)
        img = Image(raw, 'raw')
        n = check(img, st, show=0)
        img.close()
        print('%-4s raw    %-24s -> short=%d' % ('ok' if n['lost'] == 1 else 'FAIL', 'truncated', n['short']))
        failed += n['lost'] != 1
        print('self-test: %s' % ('%d FAILED' % failed if failed else 'all caught'))
        return 1 if failed else 0
    finally:
        shutil.rmtree(d)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('image', nargs='?')
    ap.add_argument('--manifest')
    ap.add_argument('--acked', metavar='LOG')
    ap.add_argument('--format')
    ap.add_argument('--nbd')
    ap.add_argument('--live', action='store_true', help='the image is open in a running QEMU')
    ap.add_argument('--until')
    ap.add_argument('--allow-newer', action='store_true')
    ap.add_argument('--allow-errors', action='store_true')
    ap.add_argument('--json', action='store_true')
    ap.add_argument('--self-test', action='store_true')
    a = ap.parse_args()
    if a.self_test:
        return self_test()
    if not a.manifest or not (a.image or a.nbd):
        ap.error('need IMAGE (or --nbd) and --manifest')
    t0 = time.time()
    try:
        st = load_state(a.manifest, a.acked, a.until, a.allow_newer)
        img = Nbd(*a.nbd.split(':', 1)) if a.nbd else Image(a.image, a.format, live=a.live)
        n = check(img, st)
        img.close()
    except (OSError, ValueError, KeyError) as e:
        print('check-disk: %s: %s' % (type(e).__name__, e), file=sys.stderr)
        return 2
    n.update(disk=st.disk, acked_ops=st.acked_ops, guest_errors=st.errors, guest_bad_reads=st.bad_reads,
             seconds=round(time.time() - t0, 2))
    bad = n['lost'] or st.bad_reads or (st.errors and not a.allow_errors)
    n['ok'] = not bad
    if a.json:
        print(json.dumps(n))
    else:
        print('%s: disk %d: %d blocks: %d data, %d zero, %d in flight; %d acked operations; lost %d%s; guest saw '
              '%d I/O errors, %d bad reads (%.1f s)' % (
                  'LOSS' if n['lost'] else 'FAIL' if bad else 'OK', st.disk, st.blocks, n['data'], n['zero'],
                  n['in_flight'], st.acked_ops, n['lost'],
                  ''.join(' %s=%d' % (k, n[k]) for k in BAD if n[k]), st.errors, st.bad_reads, n['seconds']))
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
