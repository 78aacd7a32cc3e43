#!/usr/bin/env python3
"""vm.py - start, steer and stop a VM whose guest (make-guest.sh) writes checkable blocks.

  vm.py start DIR --guest GUESTDIR --disk SPEC... [--style blockdev|drive] [--append 'gw.mode=rand gw.rate=5']
                  [--name NAME] [--uuid UUID] [--machine q35|pc] [--accel kvm|tcg] [--mem 192M]
                  [-- extra QEMU options]
  vm.py attach DIR ...             the same, but stay: end QEMU when standard input ends, SIGKILL it at a
                                   line "kill"; prints DIR/vm.json, and at the end QEMU's status
  vm.py cmd DIR 'set rate=20'      a line for the guest's console (see gwinit.c); prints its answer
  vm.py pause DIR                  make the writers stop; returns when all is flushed and acknowledged
  vm.py mark DIR NAME              print, as JSON, the worst latencies since the last mark
  vm.py report DIR                 what QEMU and the guest are at, for a reader who finds that it does not go on
  vm.py images DIR                 the images of each disk, base first, and its manifest
  vm.py stop DIR | vm.py kill DIR  quit through QMP | SIGKILL
  vm.py probe GUESTDIR             find the accelerator that really runs the guest, time its boot

SPEC: id=N[,size=256M][,fmt=qcow2|raw][,chain=1][,base=qcow2|raw][,bus=virtio|scsi|nvme][,iothread=0|1]
      [,cache=auto|none|writeback][,werror=...][,rerror=...][,fill=1][,dir=PATH][,cluster=64k][,bad=MIB]
cache=auto means none (O_DIRECT) if the file system supports that.
bad=20 makes the sector at 20 MiB of a raw disk (blockdev style) unreadable: a read of it gets EIO.
chain=3 makes base <- snap1 <- snap2, each prefilled with its own generation in its own places.
In DIR: qmp.sock (the product's), qmp2.sock (the checker's), qmp3.sock (report's), console.sock, guest.log (what
check-disk.py --acked wants), console.log (kernel), qemu.log, vm.json, disks/dN-*.{qcow2,raw}, disks/dN.json.
With --style blockdev the nodes are dN-0 (base) .. dN-K (top), protocol nodes dN-0-file ...; with
--style drive the drive is driveN and node names are QEMU's own.  Device ids: diskN.  Name and UUID of the VM follow from DIR if not given.
"""
import argparse
import errno
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

from gwlib import BLK, Image, fill
from qmp import QMP, QMPError

# A guest may wait for a copy's storage for 12 seconds, and its console with it; busy machines take their time, too.
ANSWER_S = 30
CMDLINE = ('console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check noreplace-smp '
           'random.trust_cpu=on cryptomgr.notests initcall_blacklist=init_kprobe_trace,'
           'load_system_certificate_list,cubictcp_register,i8042_init ')


def parse_size(s):
    return int(s[:-1]) << {'k': 10, 'm': 20, 'g': 30}[s[-1].lower()] if s[-1].isalpha() else int(s)


def can_direct(path):
    """Can this file be opened with O_DIRECT?  (Older kernels: not on tmpfs.)"""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
        return True
    except OSError:
        return False


class Disk:
    def __init__(self, spec, vmdir):
        d = dict(size='256M', fmt='qcow2', chain='1', base='', bus='virtio', iothread='0', cache='auto',
                 werror='', rerror='', fill='1', dir=os.path.join(vmdir, 'disks'), cluster='64k', bad='')
        d.update(x.split('=', 1) for x in spec.split(','))
        self.id, self.size, self.chain = int(d['id']), parse_size(d['size']), int(d['chain'])
        self.bus, self.iothread, self.cache, self.dir = d['bus'], d['iothread'] == '1', d['cache'], d['dir']
        self.werror, self.rerror, self.fill, self.cluster = d['werror'], d['rerror'], d['fill'] == '1', d['cluster']
        self.bad = int(d['bad'] or 0)
        self.fmts = [d['base'] or d['fmt']] + ['qcow2'] * (self.chain - 1)
        names = ['base'] + ['snap%d' % i for i in range(1, self.chain)]
        self.images = [os.path.join(self.dir, 'd%d-%s.%s' % (self.id, n, f)) for n, f in zip(names, self.fmts)]
        self.manifest = os.path.join(self.dir, 'd%d.json' % self.id)

    def create(self):
        """Base: three quarters full, in pieces; each snapshot changes other pieces."""
        os.makedirs(self.dir, exist_ok=True)
        blocks, done = self.size // BLK, []
        for i, (path, fmt) in enumerate(zip(self.images, self.fmts)):
            cmd = ['qemu-img', 'create', '-q', '-f', fmt]
            if fmt == 'qcow2':
                cmd += ['-o', 'cluster_size=' + self.cluster]
            if i:
                cmd += ['-b', self.images[i - 1], '-F', self.fmts[i - 1]]
            subprocess.run(cmd + [path] + ([] if i else [str(self.size)]), check=True)
            if not self.fill:
                continue
            img, piece = Image(path, fmt, write=True), max(blocks // 64, 1)
            for k in range(64):
                if (k % 4 != 3) if i == 0 else (k % 8 == (i * 3) % 8):
                    start, count = k * piece, piece if i == 0 else piece // 2 + 3
                    fill(img, self.id, start, count, i + 1)
                    done.append([start, count, i + 1])
            img.close()
        with open(self.manifest, 'w') as f:
            json.dump({'disk': self.id, 'blocks': blocks, 'fill': done}, f)

    def args(self, style, port):
        out, dev_drive = [], 'd%d-%d' % (self.id, self.chain - 1)
        cache_mode = self.cache
        if cache_mode == 'auto':
            cache_mode = 'none' if all(map(can_direct, self.images)) else 'writeback'
        direct = cache_mode == 'none'
        if style == 'blockdev':
            for i, (path, fmt) in enumerate(zip(self.images, self.fmts)):
                node, top = 'd%d-%d' % (self.id, i), i == self.chain - 1
                cache = {'direct': direct, 'no-flush': False}
                f = {'driver': 'file', 'node-name': node + '-file', 'filename': path, 'cache': cache,
                     'discard': 'unmap', 'auto-read-only': True}
                if self.bad and top:
                    error = {'event': 'none', 'iotype': 'read', 'errno': errno.EIO, 'sector': self.bad << 11}
                    f = {'driver': 'blkdebug', 'node-name': node + '-file', 'discard': 'unmap', 'cache': cache,
                         'image': dict(f, **{'node-name': node + '-bytes'}), 'inject-error': [error]}
                n = {'driver': fmt, 'node-name': node, 'file': node + '-file', 'read-only': not top,
                     'cache': cache, 'discard': 'unmap'}
                if fmt == 'qcow2':
                    n['backing'] = 'd%d-%d' % (self.id, i - 1) if i else None
                out += ['-blockdev', json.dumps(f), '-blockdev', json.dumps(n)]
        else:
            dev_drive = 'drive%d' % self.id
            out += ['-drive', 'if=none,id=%s,file=%s,format=%s,cache=%s,discard=unmap' % (
                dev_drive, self.images[-1].replace(',', ',,'), self.fmts[-1], cache_mode)]
        opts = ',drive=%s,serial=gw%d,id=disk%d' % (dev_drive, self.id, self.id)
        opts += ',write-cache=on' if self.bus != 'nvme' else ''
        opts += ',werror=' + self.werror if self.werror else ''
        opts += ',rerror=' + self.rerror if self.rerror else ''
        iot = ',iothread=iot%d' % self.id if self.iothread else ''
        if iot:
            out += ['-object', 'iothread,id=iot%d' % self.id]
        if self.bus == 'scsi':
            out += ['-device', 'virtio-scsi-pci,id=scsi%d%s%s' % (self.id, port, iot),
                    '-device', 'scsi-hd,bus=scsi%d.0%s' % (self.id, opts)]
        else:
            out += ['-device', {'virtio': 'virtio-blk-pci', 'nvme': 'nvme'}[self.bus] + port + iot + opts]
        return out


class VM:
    def __init__(self, vmdir, guest=None, disks=(), style='blockdev', append='', machine='q35', accel=None,
                 mem='192M', extra=(), name=None, uuid_=None):
        self.dir, self.guest, self.style, self.append = os.path.abspath(vmdir), guest, style, append
        self.name = name or '%s-%s' % (re.sub(r'[^\w.-]', '-', os.path.basename(self.dir)) or 'vm',
                                       hashlib.sha256(self.dir.encode()).hexdigest()[:6])
        self.uuid = uuid_ or str(uuid.uuid5(uuid.NAMESPACE_URL, 'file://' + self.dir))
        self.machine, self.mem, self.extra, self.proc = machine, mem, list(extra), None
        self.disks = [Disk(s, self.dir) for s in disks]
        if accel is None and guest:
            path = os.path.join(guest, 'accel')
            accel = 'tcg'
            if os.path.exists(path) and os.access('/dev/kvm', os.R_OK | os.W_OK):
                with open(path) as f:
                    accel = f.read().split()[0]
        self.accel = accel
        self.sock, self.sock2, self.sock3 = (self.path('qmp%s.sock' % n) for n in ('', '2', '3'))
        self.log = self.path('guest.log')

    def path(self, name):
        return os.path.join(self.dir, name)

    def disk(self, num):
        return next(d for d in self.disks if d.id == num)

    def smp(self):
        """Under TCG with room for one CPU QEMU leaves out the guest's memory barriers (before 8.1 all of them, later
        still those of lock-prefixed instructions), though its I/O threads see the guest's memory, too: a doorbell that
        the guest rings can be missed, and its I/O stands still for ever.  With room for two it keeps them."""
        return '1,maxcpus=2' if self.accel.split(',')[0] == 'tcg' else '1'

    def command_line(self):
        c = ['qemu-system-x86_64', '-nodefaults', '-no-user-config', '-display', 'none',
             '-name', 'guest=' + self.name.replace(',', ',,'), '-uuid', self.uuid,
             '-machine', self.machine + ',hpet=off,smm=off' if self.machine in ('q35', 'pc') else self.machine,
             '-accel', self.accel, '-m', self.mem, '-smp', self.smp(),
             '-kernel', os.path.join(self.guest, 'kernel'), '-initrd', os.path.join(self.guest, 'initramfs'),
             '-append', CMDLINE + self.append,
             '-chardev', 'socket,id=con,path=%s,server=on,wait=off,logfile=%s,logappend=on' % (
                 self.path('console.sock'), self.path('console.log')), '-serial', 'chardev:con',
             '-chardev', 'file,id=log,path=%s,append=on' % self.log,
             '-device', 'isa-debugcon,iobase=0xe9,chardev=log']
        for n, s in enumerate((self.sock, self.sock2, self.sock3)):
            c += ['-chardev', 'socket,id=qmp%d,path=%s,server=on,wait=off' % (n, s), '-mon', 'chardev=qmp%d,mode=control' % n]
        for i in range(len(self.disks) + 2 if self.machine == 'q35' else 0):      # two free ports for hotplug
            c += ['-device', 'pcie-root-port,id=rp%d,chassis=%d' % (i, i + 1)]
        for i, d in enumerate(self.disks):
            c += d.args(self.style, ',bus=rp%d' % i if self.machine == 'q35' else '')
        return c + self.extra

    def leash(self):
        """QEMU dies with us, also when we are killed."""
        return ['setpriv', '--pdeathsig', 'KILL'] if shutil.which('setpriv') else []

    def start(self, create=True, wait=60, leash=False):
        """Make the images (once), run QEMU, wait until the guest has found all disks; returns seconds."""
        os.makedirs(self.dir, exist_ok=True)
        for d in self.disks:
            if create and not os.path.exists(d.manifest):
                d.create()
        for s in (self.sock, self.sock2, self.sock3, self.path('console.sock')):
            if os.path.exists(s):
                os.unlink(s)
        at, t0 = self.log_size(), time.time()
        with open(self.path('qemu.log'), 'a') as out:
            print(' '.join("'%s'" % x if re.search(r'[^\w@%+=:,./-]', x) else x for x in self.command_line()), file=out, flush=True)
            self.proc = subprocess.Popen((self.leash() if leash else []) + self.command_line(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                         start_new_session=True)
        with open(self.path('vm.json'), 'w') as f:
            json.dump(self.facts(), f)
        for d in self.disks if wait else ():
            self.log_wait(r'^D %d ' % d.id, at, wait)
        return time.time() - t0

    def facts(self):
        return {'pid': self.proc.pid, 'name': self.name, 'uuid': self.uuid, 'accel': self.accel,
                'disks': [{'id': d.id, 'manifest': d.manifest,
                           'images': [{'path': p, 'format': f} for p, f in zip(d.images, d.fmts)]} for d in self.disks]}

    def load(self):
        with open(self.path('vm.json')) as f:
            return json.load(f)

    def ids(self):
        return [d.id for d in self.disks] or [d['id'] for d in self.load()['disks']]

    def pid(self):
        return self.proc.pid if self.proc else self.load()['pid']

    def alive(self):
        if self.proc:
            return self.proc.poll() is None
        try:
            with open('/proc/%d/cmdline' % self.pid(), 'rb') as f:
                return ('path=%s,' % self.sock).encode() in f.read()
        except OSError:
            return False

    def qmp(self, second=False, **kw):
        end = time.time() + 10
        while True:
            try:
                return QMP(self.sock2 if second else self.sock, **kw)
            except OSError:
                if time.time() > end or not self.alive():
                    raise
                time.sleep(0.05)

    def log_size(self):
        return os.path.getsize(self.log) if os.path.exists(self.log) else 0

    def log_wait(self, regex, start=0, timeout=ANSWER_S):
        """The first whole guest.log line from byte `start` on that matches regex."""
        return self.log_lines(regex, start, timeout)[-1]

    def log_lines(self, regex, start=0, timeout=ANSWER_S):
        """All whole guest.log lines from byte `start` on, up to the first that matches regex."""
        end, rx = time.time() + timeout, re.compile(regex, re.M)
        while True:
            gone = not self.alive()                    # asked first: then all output of QEMU is in the file
            if os.path.exists(self.log):
                with open(self.log, 'rb') as f:
                    f.seek(start)
                    text = f.read()
                text = text[:text.rfind(b'\n') + 1].decode('ascii', 'replace')
                m = rx.search(text)
                if m:
                    return text[:text.find('\n', m.start())].split('\n')
            if time.time() > end or gone:
                raise TimeoutError('guest.log: no /%s/%s' % (regex, '; QEMU has exited' if gone else ''))
            time.sleep(0.01)

    def cmd(self, line, timeout=ANSWER_S):
        """Send a console line, return the guest's answer: its lines '# ...', 'M name ...' or '? error'."""
        at, last = self.log_size(), line.split()[0] in ('poweroff', 'reboot', 'panic')
        end = 'end-%x' % time.monotonic_ns()           # not a command: the guest says '? end-...' to it
        # One connection per line: a client that stays and does not read stalls the guest's console,
        # and with it the guest, after a few hundred bytes (each byte is a socket message of its own).
        con = socket.socket(socket.AF_UNIX)
        con.connect(self.path('console.sock'))
        con.sendall((line + '\n' if last else '%s\n%s\n' % (line, end)).encode())
        try:
            said = self.log_lines('^# ' if last else r'^\? %s$' % end, at, timeout)
            return [x for x in said if x[:2] in ('# ', 'M ', '? ') and not x.endswith(end)]
        finally:
            con.close()

    def pause(self, timeout=ANSWER_S):
        """Make all writers stop after a flush; everything is acknowledged then."""
        at = self.log_size()
        self.cmd('pause', timeout)
        for num in self.ids():
            self.log_wait(r'^I %d ' % num, at, timeout)

    def mark(self, name, timeout=ANSWER_S):
        """{disk: {wmax, fmax, ops, kb, inflight, t}} since the previous mark (times in us)."""
        at = self.log_size()
        self.cmd('mark ' + name, timeout)
        out = {}
        for num in self.ids():
            line = self.log_wait(r'^M %s d=%d .*' % (re.escape(name), num), at, timeout)
            out[num] = {k: int(v) for k, v in (x.split('=') for x in line.split()[2:])}
        return out

    def report(self):
        """The answers of QEMU, the state of its threads, and the last output of the guest.  Never fails."""
        out = ['%s, pid %s, %s' % (self.name, self.pid(), 'there' if self.alive() else 'gone')]
        try:
            q = QMP(self.sock3, timeout=3)
            for command in ('query-status', 'query-block-jobs', 'query-jobs', 'query-blockstats'):
                out.append('%s: %s' % (command, json.dumps(q.cmd(command))))
            q.close()
        except (OSError, ConnectionError, QMPError) as e:
            out.append('QMP: %s' % e)
        task = '/proc/%d/task' % self.pid()
        for thread in sorted(os.listdir(task)) if os.path.isdir(task) else ():
            out.append('thread %s: %s' % (thread, ', '.join(self.slurp('%s/%s/%s' % (task, thread, f)).strip() for f in ('comm', 'wchan', 'syscall'))))
        try:
            gdb = ['gdb', '-p', str(self.pid()), '-batch', '-ex', 'thread apply all backtrace 25']
            text = subprocess.run(gdb, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30).stdout
            out += [line for line in text.split('\n') if line.startswith(('Thread', '#'))]
        except (OSError, subprocess.TimeoutExpired) as e:
            out.append('gdb: %s' % e)
        for name in ('guest.log', 'console.log', 'qemu.log'):
            out += ['%s ends:' % name] + self.slurp(self.path(name))[-2000:].split('\n')[-10:]
        return '\n'.join(out)

    @staticmethod
    def slurp(path):
        try:
            with open(path, 'rb') as f:
                return f.read().decode('ascii', 'replace')
        except OSError as e:
            return '(%s)' % e

    def kill(self, sig=signal.SIGKILL):
        if self.alive():
            os.kill(self.pid(), sig)

    def stop(self, timeout=10):
        if self.alive():
            try:
                q = QMP(self.sock2, timeout=1)
                q.cmd('quit')
                q.close()
            except (OSError, ConnectionError):         # busy or hung: QEMU quits on SIGTERM, too
                self.kill(signal.SIGTERM)
        end = time.time() + timeout
        while self.alive() and time.time() < end:
            time.sleep(0.02)
        self.kill()
        if self.proc:
            self.proc.wait()

    def check(self, num, image=None, fmt=None, *opts):
        """Run check-disk.py on a disk's top image or on another one; returns its JSON."""
        d = self.disk(num)
        if not (image or '--nbd' in opts):
            image, fmt = d.images[-1], d.fmts[-1]
        r = subprocess.run([sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), 'check-disk.py'),
                            '--json', '--manifest', d.manifest, '--acked', self.log] + ([image] if image else []) +
                           (['--format', fmt] if fmt else []) + list(opts), capture_output=True, text=True)
        return json.loads(r.stdout) if r.stdout else {'ok': False, 'error': r.stderr.strip()}


def probe(guest):
    best = None
    for accel, limit in (('kvm', 8), ('tcg', 60)):
        if accel == 'kvm' and not os.access('/dev/kvm', os.R_OK | os.W_OK):
            print('kvm: no /dev/kvm for this user')
            continue
        d = tempfile.mkdtemp(prefix='gw-probe-')
        vm = VM(d, guest, ['id=1,size=16M,fmt=raw'], accel=accel, append='gw.mode=seq gw.rate=1')
        try:
            t = vm.start(wait=limit, leash=True)
            vm.log_wait(r'^A 1 0 ', timeout=limit)
            print('%s: the guest boots in %.1f s' % (accel, t))
            best = best or accel
        except (TimeoutError, OSError) as e:
            print('%s: the guest does not come up within %d s (%s)' % (accel, limit, e))
        finally:
            vm.kill()
            vm.stop()
            shutil.rmtree(d)
        if best:
            break
    if not best:
        sys.exit('vm.py: the guest boots under no accelerator')
    with open(os.path.join(guest, 'accel'), 'w') as f:
        f.write(best + '\n')


def attach(vm):
    """Run a VM for a program at the other end of standard input: whatever becomes of it, QEMU ends, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    up = False
    try:
        vm.start(leash=True)
        print(json.dumps(vm.facts()), flush=True)
        up = True
        gone = os.pidfd_open(vm.proc.pid)
        while gone not in (ready := select.select([0, gone], [], [])[0]):
            if 0 in ready:
                line = os.read(0, 4096)
                if not line:
                    break
                if line == b'kill\n':
                    vm.proc.kill()
    finally:
        if vm.proc:
            vm.stop(5)
        if up:
            print(json.dumps({'status': vm.proc.returncode}), flush=True)


def main():
    argv, extra = sys.argv[1:], []
    if '--' in argv:
        argv, extra = argv[:argv.index('--')], argv[argv.index('--') + 1:]
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('what', choices=('start', 'attach', 'cmd', 'pause', 'mark', 'report', 'images', 'stop', 'kill', 'probe'))
    ap.add_argument('dir')
    ap.add_argument('line', nargs='?')
    ap.add_argument('--guest')
    ap.add_argument('--disk', action='append', default=[])
    ap.add_argument('--style', choices=('blockdev', 'drive'), default='blockdev')
    ap.add_argument('--append', default='')
    ap.add_argument('--name')
    ap.add_argument('--uuid')
    ap.add_argument('--machine', default='q35')
    ap.add_argument('--accel')
    ap.add_argument('--mem', default='192M')
    a = ap.parse_args(argv)
    if a.what == 'probe':
        return probe(a.dir)
    vm = VM(a.dir, a.guest, a.disk, a.style, a.append, a.machine, a.accel, a.mem, extra,
            a.name, a.uuid)
    if a.what in ('start', 'attach') and not (a.guest and a.disk):
        ap.error(a.what + ' needs --guest and --disk')
    if a.what in ('cmd', 'mark') and not a.line:
        ap.error(a.what + ' needs an argument')
    if a.what == 'start':
        print('guest up in %.1f s, pid %d' % (vm.start(), vm.pid()))
    elif a.what == 'attach':
        attach(vm)
    elif a.what == 'cmd':
        answer = vm.cmd(a.line)
        print('\n'.join(answer))
        return 1 if any(x[0] == '?' for x in answer) else 0
    elif a.what == 'pause':
        vm.pause()
    elif a.what == 'mark':
        print(json.dumps(vm.mark(a.line)))
    elif a.what == 'report':
        print(vm.report())
    elif a.what == 'images':
        for d in vm.load()['disks']:
            print(d['id'], d['manifest'], ' <- '.join('%(path)s(%(format)s)' % x for x in d['images']))
    elif a.what == 'stop':
        vm.stop()
    else:
        vm.kill()


if __name__ == '__main__':
    sys.exit(main())
