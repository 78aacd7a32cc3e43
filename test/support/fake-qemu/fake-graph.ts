/**
 * The block graph of the fake QEMU (fake-qemu.ts): its nodes, the guest's devices on them, and the users of each node.
 */
import { existsSync, statSync } from 'node:fs';
import { type DiskSpec, qdevOf } from '../real-qemu/qemu.ts';
import { type FakeJob, type JobNodes, type Json, refuse } from './fake-job.ts';
import { describeNode, type Node, qcow2SizeBytes, writeBackingFile } from './fake-node.ts';

/** A guest's device, which has a root in the graph. */
interface Backend {
  readonly qdev: string;
  readonly root: string;
}

/** The graph at one moment. */
export interface GraphState {
  readonly nodes: ReadonlyMap<string, Node>;
  readonly backends: readonly Backend[];
}

type Jobs = () => Iterable<FakeJob>;

export class FakeGraph {
  readonly #sizeBytes: number;
  readonly #jobs: Jobs;
  #nodes: ReadonlyMap<string, Node> = new Map();
  #backends: readonly Backend[] = [];
  #filters = 0;
  /** Called with its open files, whenever they change. */
  readonly #opens: (paths: readonly string[]) => void;
  #open = '';

  constructor(disks: readonly DiskSpec[], sizeBytes: number, jobs: Jobs, opens: (paths: readonly string[]) => void) {
    this.#opens = opens;
    this.#sizeBytes = sizeBytes;
    this.#jobs = jobs;
    for (const disk of disks) this.#plug(disk);
  }

  get state(): GraphState {
    return { nodes: this.#nodes, backends: this.#backends };
  }

  /** Restores an earlier state. */
  restore({ nodes, backends }: GraphState): void {
    this.#nodes = nodes;
    this.#backends = backends;
    this.#openFiles();
  }

  #openFiles(): void {
    const paths = [...new Set([...this.#nodes.values()].map(({ path }) => path))].filter((path) => existsSync(path));
    const open = paths.toSorted().join('\n');
    if (open === this.#open) return;
    this.#open = open;
    this.#opens(paths);
  }

  get nodes(): ReadonlyMap<string, Node> {
    return this.#nodes;
  }

  rootOf(disk: string): string | undefined {
    return this.#backends.find(({ qdev }) => qdev === disk || qdev.startsWith(`/machine/peripheral/${disk}/`))?.root;
  }

  /** The node, and all nodes below it. */
  below(name: string): readonly string[] {
    const children = this.#nodes.get(name)?.children ?? [];
    return [name, ...children.flatMap(({ node }) => this.below(node))];
  }

  queryDevices(): readonly Json[] {
    return this.#backends.map(({ qdev, root }) => ({ device: '', qdev, 'node-name': this.#named(root).name }));
  }

  /** QEMU does not report a filter that it named itself. */
  #named(root: string): Node {
    const node = this.#node(root);
    return root.startsWith('#') ? this.#node(node.children[0]?.node ?? '') : node;
  }

  queryNodes(): readonly Json[] {
    return [...this.#nodes.values()].map((node) => describeNode(node)).toReversed();
  }

  #plug(disk: DiskSpec): void {
    const chain = disk.chain ?? [];
    const sizeBytes = this.#sizeBytes;
    for (const [index, { format, path }] of chain.entries()) {
      const [name, readOnly] = [`${disk.id}-${index}`, index < chain.length - 1];
      const backing = index === 0 ? [] : [{ edge: 'backing', node: `${disk.id}-${index - 1}` }];
      const file = { name: `${name}-file`, driver: 'file', path, readOnly: false, sizeBytes, children: [] };
      this.#put(file);
      const children = [{ edge: 'file', node: file.name }, ...backing];
      this.#put({ name, driver: format, path, readOnly, sizeBytes, children });
    }
    if (chain.length === 0) return;
    this.#backends = [...this.#backends, { qdev: qdevOf(disk), root: `${disk.id}-${chain.length - 1}` }];
  }

  #put(node: Node): void {
    this.#nodes = new Map(this.#nodes).set(node.name, node);
    this.#openFiles();
  }

  #putFilter(name: string, driver: string, above: Node, edge: 'backing' | 'file'): void {
    this.#put({ ...above, name, driver, children: [{ edge, node: above.name }] });
  }

  #drop(name: string): void {
    this.#nodes = new Map([...this.#nodes].filter(([other]) => other !== name));
    this.#openFiles();
  }

  #node(name: string): Node {
    return this.#nodes.get(name) ?? refuse(`Cannot find device='${name}' nor node-name='${name}'`);
  }

  add({ driver, 'node-name': given, filename, file, backing }: Json): void {
    const name = String(given);
    if (this.#nodes.has(name)) refuse(`Duplicate nodes with node-name='${name}'`);
    if (driver === 'file') {
      const path = String(filename);
      if (!existsSync(path)) refuse(`Could not open '${path}': No such file or directory`);
      this.#put({ name, driver, path, readOnly: false, sizeBytes: statSync(path).size, children: [] });
      return;
    }
    const child = this.#node(String(file));
    const sizeBytes = driver === 'raw' ? child.sizeBytes : qcow2SizeBytes(child.path);
    if (sizeBytes === undefined) return refuse('Image is not in qcow2 format');
    const below = typeof backing === 'string' ? [{ edge: 'backing', node: this.#node(backing).name }] : [];
    const children = [{ edge: 'file', node: child.name }, ...below];
    this.#put({ name, driver: String(driver), path: child.path, readOnly: false, sizeBytes, children });
  }

  delete(name: string): void {
    if (!this.#nodes.has(name)) refuse(`Failed to find node with node-name='${name}'`);
    this.#refuseBusy(name);
    const user = [...this.#nodes.values()].find(({ children }) => children.some(({ node }) => node === name));
    const edge = user?.children.find(({ node }) => node === name)?.edge;
    const isTarget = [...this.#jobs()].some(({ held }) => held?.own.includes(name));
    if (edge === 'backing' && !isTarget)
      refuse(`Node '${name}' is busy: node is used as backing hd of '${user?.name}'`);
    if (isTarget || this.#backends.some(({ root }) => root === name)) refuse(`Node ${name} is in use`);
    if (edge !== undefined) refuse(`Block device ${name} is in use`);
    this.#drop(name);
  }

  /** The service uses it to flush a node, and is refused: nothing of the node changes. */
  reopen(name: string): never {
    if (!this.#nodes.has(name)) refuse(`Failed to find node with node-name='${name}'`);
    return refuse('setting detect-zeroes to unmap is not allowed without setting discard operation to unmap');
  }

  /** For a node that a job reads, or has above it. */
  #refuseBusy(name: string): void {
    const user = [...this.#jobs()].find(
      ({ held }) => held?.blocks === true && held.uses.some(({ edge, node }) => node === name && edge !== 'target'),
    );
    if (user !== undefined) refuse(`Node '${name}' is busy: block device is in use by block job: ${user.type}`);
  }

  /** A mirror's nodes: of a copy, and of a commit of the active image. */
  mirror(from: string, to: string, filter: string): JobNodes {
    const [source, target] = [this.#node(from), this.#node(to)];
    if (source === target) refuse("Can't mirror node into itself");
    if (!this.#backends.some(({ root }) => root === source.name)) refuse('Need a root block node');
    const busy = [...this.#jobs()].find(({ held }) => held?.own.includes(target.name));
    if (busy !== undefined) refuse(`Node '${target.name}' is busy: block device is in use by block job: ${busy.type}`);
    return {
      filter,
      own: [target.name],
      blocks: true,
      uses: [
        { edge: 'main node', node: filter },
        { edge: 'source', node: source.name },
        { edge: 'target', node: target.name },
      ],
      begin: () => {
        this.#putFilter(filter, 'mirror_top', source, 'backing');
        this.#put({ ...target, readOnly: false });
        this.#moveRoot(source.name, filter);
      },
      end: (pivoted) => {
        this.#moveRoot(filter, pivoted ? target.name : source.name);
        this.#drop(filter);
      },
    };
  }

  /** A pull's nodes. */
  stream(into: string, base: string | undefined, backingFile: string): JobNodes {
    const top = this.#node(into);
    this.#refuseBusy(top.name);
    this.#filters += 1;
    const filter = `#block${this.#filters}`;
    const chain = this.#backingChain(top.name);
    const pulled = chain.slice(1, base === undefined ? undefined : chain.indexOf(base));
    return {
      filter,
      own: [filter],
      blocks: true,
      uses: [
        { edge: 'main node', node: filter },
        { edge: 'active node', node: top.name },
        ...pulled.map((node) => ({ edge: 'intermediate node', node })),
      ],
      begin: () => {
        this.#putFilter(filter, 'copy-on-read', top, 'file');
        this.#moveRoot(top.name, filter);
      },
      end: (done) => {
        if (done) this.#setBacking(top.name, base);
        if (done) writeBackingFile(top.path, backingFile);
        this.#moveRoot(filter, top.name);
        this.#drop(filter);
      },
    };
  }

  /** The nodes of a commit of lower images. */
  commit(device: string, [from, to]: readonly [string, string], filter: string, backingFile: string): JobNodes {
    const chain = this.#backingChain(this.#node(device).name);
    const [top, base] = [this.#node(from), this.#node(to)];
    const overlay = chain[chain.indexOf(top.name) - 1];
    if (overlay === undefined) return refuse(`Cannot find the overlay image form of '${top.name}'`);
    return {
      filter,
      own: [base.name, top.name],
      blocks: false,
      uses: [
        { edge: 'main node', node: overlay },
        { edge: 'base', node: base.name },
        ...chain
          .slice(chain.indexOf(top.name), chain.indexOf(base.name))
          .map((node) => ({ edge: 'intermediate node', node })),
      ],
      begin: () => {
        this.#putFilter(filter, 'commit_top', top, 'backing');
        this.#put({ ...base, readOnly: false });
        this.#setBacking(overlay, filter);
      },
      end: (done) => {
        this.#setBacking(overlay, done ? base.name : top.name);
        if (done) writeBackingFile(this.#node(overlay).path, backingFile);
        this.#put({ ...base, readOnly: true });
        this.#drop(filter);
      },
    };
  }

  /** The image and those below it, without other nodes. */
  #backingChain(node: string): readonly string[] {
    const below = this.#node(node).children.find(({ edge }) => edge === 'backing')?.node;
    return below === undefined ? [node] : [node, ...this.#backingChain(below)];
  }

  #setBacking(name: string, below: string | undefined): void {
    const node = this.#node(name);
    const kept = node.children.filter(({ edge }) => edge !== 'backing');
    this.#put({ ...node, children: [...kept, ...(below === undefined ? [] : [{ edge: 'backing', node: below }])] });
  }

  #moveRoot(from: string, to: string): void {
    this.#backends = this.#backends.map(({ qdev, root }) => ({ qdev, root: root === from ? to : root }));
  }

  /** x-debug-query-block-graph */
  query(): Json {
    const nodes: { id: number; name: string; type: string }[] = [];
    const edges: { parent: number; child: number; name: string }[] = [];
    const idOf = (name: string, type: string) => nodes.push({ id: nodes.length + 1, name, type });
    const ids = new Map([...this.#nodes.keys()].map((name) => [name, idOf(name, 'block-driver')]));
    const connect = (parent: number, name: string, child: string) => {
      edges.push({ parent, child: ids.get(child) ?? 0, name });
    };
    for (const { name, children } of this.#nodes.values())
      for (const { edge, node } of children) connect(ids.get(name) ?? 0, edge, node);
    for (const { qdev, root } of this.#backends) connect(idOf(qdev, 'block-backend'), 'root', root);
    for (const { id, held } of this.#jobs()) {
      if (held === undefined) continue;
      for (const root of held.own) connect(idOf('', 'block-backend'), 'root', root);
      const job = idOf(id, 'block-job');
      for (const { edge, node } of held.uses) connect(job, edge, node);
    }
    return { nodes, edges };
  }
}
