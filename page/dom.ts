/** Elements, and the only way to change the page: build the new state, and take over the differences. */

export type Child = Node | string | undefined | false;
export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

const SVG = 'http://www.w3.org/2000/svg';

/** Strings become text, whatever they contain. */
export function h(tag: string, attributes: Attributes = {}, ...children: readonly Child[]): HTMLElement {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag: string, attributes: Attributes = {}, ...children: readonly Child[]): SVGElement {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled<Made extends Element>(element: Made, attributes: Attributes, children: readonly Child[]): Made {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.filter((child) => child !== undefined && child !== false));
  return element;
}

/**
 * Makes the children of `live` those of `next`, and keeps each existing element, so that focus, selection and scroll
 * position stay. `data-key` identifies siblings; the children of `data-kept` belong to other code.
 */
export function patch(live: Element, next: ParentNode): void {
  const keyed = new Map([...live.children].flatMap((child) => (keyOf(child) === '' ? [] : [[keyOf(child), child]])));
  let at = live.firstChild;
  let wanted = next.firstChild;
  while (wanted !== null) {
    const following = wanted.nextSibling;
    const key = keyOf(wanted);
    const found = key === '' ? at : (keyed.get(key) ?? null);
    if (found !== null && isAlike(found, wanted)) {
      if (found === at) at = at.nextSibling;
      else live.insertBefore(found, at);
      takeOver(found, wanted);
    } else {
      live.insertBefore(wanted, at);
    }
    wanted = following;
  }
  while (at !== null) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function takeOver(live: Node, next: Node): void {
  if (!(live instanceof Element && next instanceof Element)) {
    if (live.nodeValue !== next.nodeValue) live.nodeValue = next.nodeValue;
    return;
  }
  for (const name of live.getAttributeNames()) {
    // The reader opens and closes details.
    if (!next.hasAttribute(name) && name !== 'open') live.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) if (live.getAttribute(name) !== value) live.setAttribute(name, value);
  if (!next.hasAttribute('data-kept')) patch(live, next);
}

function isAlike(a: Node, b: Node): boolean {
  return a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function keyOf(node: Node): string {
  return (node instanceof Element && node.getAttribute('data-key')) || '';
}
