"""gwlib.py - what check-disk.py and vm.py share: block contents, the operation generator and the
replay of a guest log (all in step with gwinit.c), and a small NBD client."""
import array
import json
import os
import socket
import struct
import subprocess
import tempfile
import time

BLK = 4096
ZERO = bytes(BLK)
MAGIC = 0x314b4c4257474d56
GOLD = 0x9E3779B97F4A7C15
M64 = (1 << 64) - 1


def mix(z):
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & M64
    return z ^ z >> 31


def block(disk, blk, gen):
    """The 4096 bytes of block `blk` of disk `disk` in generation `gen`."""
    ident = disk << 32
    ck = mix(ident ^ mix(blk ^ mix(gen)))
    tail = struct.pack('<6Q', blk, gen, ck, blk ^ M64, gen ^ M64, ck ^ M64)
    return b''.join((struct.pack('<2Q', MAGIC, ident | s) + tail) * 8 for s in range(8))


def gen_of(epoch, stream, seq):
    return epoch << 32 | stream << 28 | seq


def gen_str(gen):
    if gen < 1 << 32:
        return 'prefill %d' % gen if gen else 'zeroes'
    return 'boot %d stream %d op %d' % (gen >> 32, gen >> 28 & 15, gen & (1 << 28) - 1)


class Phase:
    """Parameters of one 'P' line: which block does operation seq touch?"""

    def __init__(self, seq0, kv):
        self.seq0, self.acked = seq0, seq0 - 1
        self.seed = int(kv['seed'], 16)
        for k in ('off', 'len', 'seq', 'bs', 'dbs', 'vary', 'pw', 'pd', 'batch'):
            setattr(self, k, int(kv[k]))

    def op(self, seq):
        h = mix((self.seed + seq * GOLD) & M64)
        r = h % 100
        kind = 'W' if r < self.pw else 'D' if r < self.pw + self.pd else 'Z'
        ext = self.bs if kind == 'W' else self.dbs
        pos = seq - self.seq0 if self.seq and kind == 'W' else h >> 24
        n = 1 + (h >> 8 & 0xffff) % ext if kind == 'W' and self.vary else ext
        return kind, self.off + pos % (self.len // ext) * ext, n


class State:
    """The possible contents of each block of one disk.  sure[b]: generation (0 = zeroes) of the last
    acknowledged operation; maybe[b]: other contents that are just as right (operations that were
    under way when the log ends; zeroes after a discard)."""

    def __init__(self, disk, blocks, fill=()):
        self.disk, self.blocks = disk, blocks
        self.sure = array.array('Q', bytes(8 * blocks))
        self.maybe = {}
        self.phases, self.epoch, self.acked_ops, self.errors, self.bad_reads = {}, 0, 0, 0, 0
        self.past_mark = False                         # from here on, an operation may or may not be there
        for start, count, gen in fill:
            for b in range(start, start + count):
                self.sure[b] = gen

    def _apply(self, stream, ph, seq, acked):
        kind, b0, n = ph.op(seq)
        gen = gen_of(self.epoch, stream, seq) if kind == 'W' else 0
        if acked and kind != 'D' and not self.past_mark:
            for b in range(b0, b0 + n):
                self.sure[b] = gen
                self.maybe.pop(b, None)
        else:
            for b in range(b0, b0 + n):
                self.maybe.setdefault(b, set()).add(gen)

    def _in_flight(self):
        for stream, ph in self.phases.items():
            for seq in range(ph.acked + 1, ph.acked + 1 + ph.batch):
                self._apply(stream, ph, seq, False)
        self.phases = {}

    def replay(self, log, until=None, later=False):
        """Follow the guest log (a path) up to the first line starting with `until`.  With `later` go on
        from there, but take what comes for possible only, not for certain."""
        with open(log, 'rb') as f:
            for raw in f:
                if not raw.endswith(b'\n'):
                    break                              # QEMU died in the middle of a line
                line = raw.decode('ascii', 'replace').strip()
                if until and line.startswith(until):
                    if not later:
                        break
                    self.past_mark = True
                w = line.split()
                if not w:
                    continue
                if w[0] == 'B':
                    self._in_flight()
                    self.epoch = int(w[1])
                elif w[0] in 'PAIEV' and len(w) > 3 and w[1] == str(self.disk):
                    stream, seq = int(w[2]), w[3]
                    if w[0] == 'P':
                        self.phases[stream] = Phase(int(seq), dict(x.split('=', 1) for x in w[4:] if '=' in x))
                    elif w[0] == 'A':
                        ph = self.phases[stream]
                        for s in range(ph.acked + 1, int(seq) + 1):
                            self._apply(stream, ph, s, True)
                        self.acked_ops += int(seq) - ph.acked
                        ph.acked = int(seq)
                    elif w[0] == 'I':
                        self.phases.pop(stream, None)
                    elif w[0] == 'E':
                        self.errors += 1
                    elif w[0] == 'V':
                        self.bad_reads += 1
        self._in_flight()
        return self


def load_state(manifest, log=None, until=None, later=False):
    with open(manifest) as f:
        m = json.load(f)
    st = State(m['disk'], m['blocks'], m['fill'])
    return st.replay(log, until, later) if log and os.path.exists(log) else st


class Nbd:
    """Blocking NBD client on a unix socket: enough to read and fill an image."""

    def __init__(self, path, export='', wait=10.0, gone=lambda: False):
        end = time.time() + wait
        while True:
            try:
                self.s = socket.socket(socket.AF_UNIX)
                self.s.connect(path)
                break
            except OSError:
                if time.time() > end or gone():
                    raise
                time.sleep(0.02)
        if self._get(16) != b'NBDMAGICIHAVEOPT':
            raise IOError('not an NBD server')
        self._get(2)
        e = export.encode()
        self.s.sendall(struct.pack('>I', 3) + b'IHAVEOPT' + struct.pack('>II', 1, len(e)) + e)
        self.size, _ = struct.unpack('>QH', self._get(10))

    def _get(self, n):
        buf = bytearray(n)
        v, got = memoryview(buf), 0
        while got < n:
            k = self.s.recv_into(v[got:])
            if not k:
                raise IOError('NBD server hung up')
            got += k
        return bytes(buf)

    def _req(self, cmd, off, n, data=b''):
        self.s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, cmd, 1, off, n) + data)
        magic, err, _ = struct.unpack('>IIQ', self._get(16))
        if magic != 0x67446698 or err:
            raise IOError('NBD error %d at %d' % (err, off))
        return self._get(n) if cmd == 0 else b''

    def read(self, off, n):
        return self._req(0, off, n)

    def write(self, off, data):
        self._req(1, off, len(data), data)

    def close(self):
        try:
            self._req(3, 0, 0)
            self.s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 2, 1, 0, 0))
        except OSError:
            pass
        self.s.close()


class Image:
    """An image of any format (with its backing chain), through qemu-nbd."""

    def __init__(self, path, fmt=None, write=False, live=False):
        self.sock = os.path.join(tempfile.gettempdir(), 'gw-%d-%x.nbd' % (os.getpid(), time.monotonic_ns()))
        cmd = ['qemu-nbd', '-k', self.sock]
        if live:                                       # opened by a running QEMU: ignore its locks
            cmd += ['-r', '--image-opts', 'driver=%s,force-share=on,read-only=on,file.driver=file,'
                    'file.filename=%s' % (fmt or 'raw', path)]
        else:
            cmd += ([] if write else ['-r']) + (['-f', fmt] if fmt else []) + [path]
        self.p = subprocess.Popen(cmd, stderr=subprocess.PIPE)
        # It listens before it opens the image: a connection that is refused may mean that it could not.
        try:
            self.nbd = Nbd(self.sock, wait=60.0, gone=lambda: self.p.poll() is not None)
        except OSError:
            if self.p.poll() is None:
                self.p.kill()
            raise IOError('qemu-nbd: ' + self.p.stderr.read().decode().strip())
        self.size, self.read, self.write = self.nbd.size, self.nbd.read, self.nbd.write

    def close(self):
        self.nbd.close()
        if self.p.wait(30):
            raise IOError('qemu-nbd: ' + self.p.stderr.read().decode().strip())


def fill(img, disk, start, count, gen):
    step = 256
    for b in range(start, start + count, step):
        img.write(b * BLK, b''.join(block(disk, i, gen) for i in range(b, min(b + step, start + count))))
