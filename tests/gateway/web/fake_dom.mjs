// As much of a document as the Markdown view uses; it prints itself as HTML, and has no way to parse any.

class FakeNode {
  parent = null;

  remove() {
    this.parent?.children.splice(this.parent.children.indexOf(this), 1);
    this.parent = null;
  }
}

class FakeText extends FakeNode {
  constructor(data) {
    super();
    this.data = data;
  }

  appendData(more) {
    this.data += more;
  }

  get textContent() {
    return this.data;
  }

  toString() {
    return this.data.replace(/[&<>]/g, (each) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[each]);
  }
}

const ATTRIBUTES = ["className", "href", "rel", "start", "target"];

class FakeElement extends FakeNode {
  children = [];

  constructor(ownerDocument, tag) {
    super();
    this.ownerDocument = ownerDocument;
    this.tagName = tag.toUpperCase();
  }

  set innerHTML(_) {
    throw new Error("innerHTML must not be used");
  }

  get childNodes() {
    return this.children;
  }

  get lastChild() {
    return this.children.at(-1) ?? null;
  }

  append(...nodes) {
    for (const each of nodes) {
      const node = typeof each === "string" ? this.ownerDocument.createTextNode(each) : each;
      node.remove();
      node.parent = this;
      this.children.push(node);
    }
  }

  replaceChildren(...nodes) {
    for (const child of [...this.children]) child.remove();
    this.append(...nodes);
  }

  get textContent() {
    return this.children.map((child) => child.textContent).join("");
  }

  get inside() {
    return this.children.join("");
  }

  toString() {
    const tag = this.tagName.toLowerCase();
    const attributes = ATTRIBUTES.filter((name) => this[name] !== undefined).map((name) => ` ${name}="${this[name]}"`);
    return `<${tag}${attributes.join("")}>${this.inside}</${tag}>`;
  }

  *[Symbol.iterator]() {
    yield this;
    for (const child of this.children) if (child instanceof FakeElement) yield* child;
  }
}

export class FakeDocument {
  made = 0;

  createElement(tag) {
    this.made++;
    return new FakeElement(this, tag);
  }

  createTextNode(data) {
    return new FakeText(data);
  }
}
