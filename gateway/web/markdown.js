/**
 * A safe subset of Markdown, rendered while it is being written.
 *
 * Text becomes nodes by `createElement` and text nodes alone, so that no text of a model can become
 * markup. Links go to http, https and mailto only; an image becomes a link to it; HTML stays text.
 *
 *     Splitter      lines -> blocks, one line at a time
 *     render...     one block -> nodes
 *     MarkdownView  text as it arrives -> nodes; only the last, unfinished block is rendered again
 */

const DEPTH = 6; // of quotes and lists in each other; beyond it their text is shown as it is
const PLAIN_ABOVE = 8_192; // characters; a longer block shows its bare text until it is whole
const PIECED_ABOVE = 32_768; // a longer paragraph stays in pieces
const PIECE = 4_096; // at least; a browser takes four times as long to lay out a paragraph that is twice as long

// None of these can be made to look at a long line more than a few times.
const FENCE = /^ {0,3}(`{3,}|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^(\s*)([-*+]|(\d{1,9})[.)])(\s+|$)/;
const ROW = /^\s*\|/;
const ROW_RULE = /^\s*\|(?:\s*:?-+:?\s*\|)+\s*$/;

const indentOf = (line) => line.length - line.trimStart().length;

/** The mark and language of the code that `line` begins, or `undefined`. */
function fenceOf(line) {
  const [, mark, info] = FENCE.exec(line) ?? [];
  if (!mark || info.includes("`")) return undefined;
  return { mark, language: info.trim().split(/\s/, 1)[0] };
}

/** Whether `line` ends the code that `fence` began. */
function closes(line, fence) {
  const text = line.trim();
  return text.length >= fence.mark.length && text === fence.mark[0].repeat(text.length);
}

/** Cuts lines into blocks `{ kind, lines }`. One that can still grow is `open`. */
class Splitter {
  open = null;

  /** Take the next line (without its end); returns the blocks that it completes. */
  push(line) {
    const { open } = this;
    if (open?.fence) return this.#code(line);
    if (!line.trim()) {
      if (open?.kind !== "item") return this.end();
      open.lines.push("");
      return [];
    }
    if (open && this.#continues(line)) {
      open.lines.push(line);
      if (open.kind === "item") open.fence = fenceOf(line.trimStart());
      return [];
    }
    const whole = this.end();
    this.open = this.#begin(line);
    return ["heading", "rule"].includes(this.open.kind) ? [...whole, ...this.end()] : whole;
  }

  /** There is no further line. */
  end() {
    const whole = this.open ? [this.open] : [];
    this.open = null;
    return whole;
  }

  #code(line) {
    const { open } = this;
    open.lines.push(line);
    if (!closes(line, open.fence)) return [];
    if (open.kind === "code") return this.end();
    open.fence = undefined;
    return [];
  }

  #continues(line) {
    const { kind, lines, indent } = this.open;
    if (kind === "item" && indentOf(line) >= indent + 2) return true;
    const next = kindOf(line);
    if (kind === "item") return next === "paragraph" && lines.at(-1) !== "";
    if (kind === "paragraph" && next === "item") return !["1", undefined].includes(ITEM.exec(line)[3]);
    return kind === next && ["paragraph", "quote", "table"].includes(kind);
  }

  #begin(line) {
    const kind = kindOf(line);
    const fence = kind === "code" || kind === "item" ? fenceOf(line.replace(ITEM, "")) : undefined;
    return { kind, lines: [line], indent: indentOf(line), fence };
  }
}

function kindOf(line) {
  if (fenceOf(line)) return "code";
  if (HEADING.test(line)) return "heading";
  if (RULE.test(line)) return "rule";
  if (QUOTE.test(line)) return "quote";
  if (ITEM.test(line)) return "item";
  return ROW.test(line) ? "table" : "paragraph";
}

function blocksOf(lines) {
  const splitter = new Splitter();
  return [...lines.flatMap((line) => splitter.push(line)), ...splitter.end()];
}

/** Create an element with properties and children, which are nodes or text. */
function make(document, tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function renderBlock(document, { kind, lines }, depth) {
  switch (kind) {
    case "code": return renderCode(document, lines);
    case "heading": return renderHeading(document, lines[0]);
    case "rule": return make(document, "hr");
    case "item": return renderItem(document, lines, depth);
    case "quote": {
      const inner = lines.map((line) => line.replace(QUOTE, ""));
      return make(document, "blockquote", {}, ...renderInside(document, inner, depth));
    }
    case "table":
      if (ROW_RULE.test(lines[1] ?? "")) return renderTable(document, lines);
  }
  return renderParagraph(document, lines.map((line) => line.trim()).join("\n"));
}

function renderParagraph(document, text) {
  if (text.length <= PIECED_ABOVE) return make(document, "p", {}, ...renderInline(document, text));
  const paragraph = make(document, "p");
  for (let from = 0, end; from < text.length; from = end) {
    end = endOfPiece(text, from);
    paragraph.append(make(document, "div", {}, ...renderInline(document, text.slice(from, end))));
  }
  return paragraph;
}

/** Where a piece that begins there ends: behind a line of code, a sentence or a word, or anywhere if none ends for long. */
function endOfPiece(text, from, isCode = false) {
  const gap = isCode ? /\n/g : /[。！？]\s?|\s/g;
  gap.lastIndex = from + PIECE;
  const end = gap.test(text) ? gap.lastIndex : text.length;
  if (isCode || end - from <= 2 * PIECE) return end;
  const cut = from + 2 * PIECE;
  return /[\uD800-\uDBFF]/.test(text[cut - 1]) ? cut + 1 : cut;
}

/** The blocks within a quote or an item. */
function renderInside(document, lines, depth) {
  if (depth >= DEPTH) return [make(document, "p", {}, lines.join("\n"))];
  const parent = make(document, "div");
  for (const block of blocksOf(lines)) place(document, parent, block, depth + 1);
  return [...parent.childNodes];
}

function renderCode(document, [first, ...lines]) {
  const fence = fenceOf(first);
  if (lines.length && closes(lines.at(-1), fence)) lines.pop();
  return makeCode(document, fence.language, make(document, "code", {}, lines.join("\n")));
}

/** `code` holds the text. */
function makeCode(document, language, code) {
  const copy = make(document, "button", { type: "button", className: "copy-code" }, "Copy");
  const bar = make(document, "figcaption", {}, make(document, "span", {}, language || "text"), copy);
  const box = make(document, "pre", { tabIndex: 0 }, code);
  return make(document, "figure", { className: "code" }, bar, box);
}

/** The page has its own first two levels. */
function renderHeading(document, line) {
  const [, marks, text] = HEADING.exec(line);
  const title = text.trim().replace(/\s#+$/, "");
  return make(document, `h${Math.min(marks.length + 2, 6)}`, {}, ...renderInline(document, title));
}

function renderItem(document, [first, ...rest], depth) {
  const [marker, base] = ITEM.exec(first);
  while (rest.at(-1) === "") rest.pop();
  const indents = rest.filter((line) => line).map(indentOf).filter((indent) => indent >= base.length + 2);
  const margin = Math.min(...indents); // of what is inside; some write two spaces, some four
  const inner = rest.map((line) => line.slice(Math.min(indentOf(line), margin)));
  const blocks = renderInside(document, [first.slice(marker.length), ...inner], depth);
  const isTight = blocks[0]?.tagName === "P" && !inner.includes("");
  const children = isTight ? [...blocks[0].childNodes, ...blocks.slice(1)] : blocks;
  return make(document, "li", {}, ...children);
}

function renderTable(document, [head, rule, ...rows]) {
  const cellsOf = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/);
  const sides = cellsOf(rule).map((cell) => /^\s*(:?)-+(:?)\s*$/.exec(cell))
    .map((match) => (match?.[2] ? (match[1] ? "center" : "end") : "start"));
  const cellOf = (tag) => (cell, column) =>
    make(document, tag, { className: sides[column] }, ...renderInline(document, cell.trim()));
  const rowOf = (tag) => (line) =>
    make(document, "tr", {}, ...cellsOf(line).slice(0, sides.length).map(cellOf(tag)));
  const table = make(document, "table", {},
    make(document, "thead", {}, rowOf("th")(head)),
    make(document, "tbody", {}, ...rows.map(rowOf("td"))));
  return make(document, "div", { className: "table", tabIndex: 0 }, table);
}

/** Render a block at the end of `parent`; an item joins the list before it. Returns what it added. */
function place(document, parent, block, depth = 0) {
  const node = renderBlock(document, block, depth);
  if (block.kind !== "item") {
    parent.append(node);
    return [node];
  }
  const number = ITEM.exec(block.lines[0])[3];
  const tag = number === undefined ? "UL" : "OL";
  if (parent.lastChild?.tagName === tag) {
    parent.lastChild.append(node);
    return [node];
  }
  const list = make(document, tag.toLowerCase(), number > 1 ? { start: Number(number) } : {}, node);
  parent.append(list);
  return [list];
}

// Inline: code first, then emphasis and links; what has no end is text.

const TOKEN = /\\([!-/:-@[-`{-~])|(`+)|(\*\*|__|~~|\*|_)|!?(?=\[)\[|(https?:\/\/[!#-;=?-_a-z~]+)/g;
const LINK = /!?\[([^[\]\n]{0,999})\]\(\s*([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)(?:\s+"[^"\n]*")?\s*\)/y;
const TAGS = { "**": "strong", __: "strong", "*": "em", _: "em", "~~": "del" };
const WORD = /[\p{L}\p{N}_]/u;

function renderInline(document, text, depth = 0) {
  const nodes = [];
  const endless = new Set(); // marks that have no end from here on: looked for once, not at each of them
  let plain = "";
  const add = (node) => {
    if (plain) nodes.push(document.createTextNode(plain));
    plain = "";
    nodes.push(node);
  };
  const token = new RegExp(TOKEN);
  let at = 0;
  for (let match; (match = token.exec(text));) {
    const [all, escaped, ticks, mark, address] = match;
    plain += text.slice(at, match.index);
    at = token.lastIndex;
    if (escaped) {
      plain += escaped;
    } else if (ticks || mark) {
      const open = ticks ?? mark;
      const end = endless.has(open) ? -1 : (ticks ? endOfCode : endOfMark)(text, open, match.index);
      if (end < 0) {
        plain += all;
        if (end === -1) endless.add(open);
      } else {
        const inner = text.slice(at, end);
        const tag = ticks ? "code" : TAGS[mark];
        const isText = ticks || depth >= DEPTH;
        add(make(document, tag, {}, ...(isText ? [inner] : renderInline(document, inner, depth + 1))));
        at = end + open.length;
      }
    } else if (depth >= DEPTH) {
      plain += all;
    } else if (address) {
      const url = withoutPunctuation(address);
      at = match.index + url.length;
      add(makeLink(document, url, [url]));
    } else {
      LINK.lastIndex = match.index;
      const link = LINK.exec(text);
      if (!link) {
        plain += all;
      } else {
        const label = link[1] ? renderInline(document, link[1], DEPTH) : [link[2]];
        add(makeLink(document, link[2], label));
        at = LINK.lastIndex;
      }
    }
    token.lastIndex = at;
  }
  plain += text.slice(at);
  if (plain) nodes.push(document.createTextNode(plain));
  return nodes;
}

/** Where the code that `ticks` at `index` begins ends; -1 if it does not. */
function endOfCode(text, ticks, index) {
  for (let at = index + ticks.length; (at = text.indexOf(ticks, at)) >= 0;) {
    let after = at;
    while (text[after] === "`") after++;
    if (after - at === ticks.length) return at;
    at = after;
  }
  return -1;
}

/** The same for emphasis: -1 if no mark ends it, -2 if `mark` at `index` cannot begin one. */
function endOfMark(text, mark, index) {
  const isWordy = mark[0] === "_"; // snake_case is no emphasis
  const first = text[index + mark.length];
  if (!first?.trim() || (isWordy && WORD.test(text[index - 1] ?? ""))) return -2;
  for (let at = index + mark.length + 1; (at = text.indexOf(mark, at)) >= 0;) {
    let end = at + 1;
    while (text[end] === mark[0]) end++;
    const run = end - at; // of two ends, that of what is inside comes first
    const isInWord = isWordy && WORD.test(text[end] ?? "");
    const isEnd = text[at - 1].trim() && text[at - 1] !== "\\" && !isInWord;
    if (isEnd && (run === mark.length || run > 2)) return end - mark.length;
    at = end;
  }
  return -1;
}

/** A bare address ends before the sentence does; a closing bracket is its own if it opens there too. */
function withoutPunctuation(address) {
  const closing = (text) => text.split(")").length - text.split("(").length;
  let unpaired = Math.max(closing(address), 0);
  let end = address.length;
  for (; '!"\'),.:;?]*_~'.includes(address[end - 1]); end--) {
    if (address[end - 1] === ")" && unpaired-- === 0) break;
  }
  return address.slice(0, end);
}

function makeLink(document, address, label) {
  const href = safeAddress(address);
  if (!href) return make(document, "span", {}, ...label);
  const link = { href, title: href, rel: "noopener noreferrer", target: "_blank" };
  return make(document, "a", link, ...label);
}

/** The address as a browser would read it, if it is one that text of others may lead to. */
function safeAddress(address) {
  try {
    const { protocol, href } = new URL(address);
    return ["http:", "https:", "mailto:"].includes(protocol) ? href : null;
  } catch {
    return null; // relative, or none at all
  }
}

/** Shows Markdown in `root`, which is the view's alone, while it is being written. */
export class MarkdownView {
  #root;
  #document;
  #splitter = new Splitter();
  #rest = ""; // the last line, unfinished
  #tail = []; // nodes of the unfinished block
  #plain = null; // what holds its pieces, if it is shown as it is
  #piece = null; // the text node of the last one,
  #from = 0; // which begins there in the block's text
  #shown = 0; // and shows it up to here

  constructor(root) {
    this.#root = root;
    this.#document = root.ownerDocument;
  }

  /** Show more text. */
  append(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) this.#settle(this.#splitter.push(line.replace(/\r$/, "")));
    this.#preview();
  }

  /** The text is whole. */
  finish() {
    if (this.#rest) this.#settle(this.#splitter.push(this.#rest.replace(/\r$/, "")));
    this.#rest = "";
    this.#settle(this.#splitter.end());
  }

  /** Begin again with another text. */
  replace(text) {
    this.#root.replaceChildren();
    this.#splitter = new Splitter();
    this.#rest = "";
    this.#tail = [];
    this.#plain = null;
    this.append(text);
    this.finish();
  }

  #settle(blocks) {
    if (!blocks.length) return;
    this.#clear();
    for (const block of blocks) place(this.#document, this.#root, block);
  }

  #clear() {
    for (const node of this.#tail) node.remove();
    this.#tail = [];
    this.#plain = null;
  }

  #preview() {
    const { kind, lines = [] } = this.#splitter.open ?? {};
    const isCode = kind === "code";
    const source = isCode ? this.#codeSoFar(lines) : [...lines, this.#line].join("\n");
    if (!isCode && source.length <= PLAIN_ABOVE) {
      this.#clear();
      const blocks = blocksOf([...lines, this.#rest]);
      this.#tail = blocks.flatMap((block) => place(this.#document, this.#root, block));
      return;
    }
    if (!this.#plain) this.#beginPlain(isCode && lines[0]);
    this.#extend(source, isCode);
  }

  /** The unfinished line, without what may turn out to be half of its end. */
  get #line() {
    return this.#rest.endsWith("\r") ? this.#rest.slice(0, -1) : this.#rest;
  }

  #codeSoFar([, ...lines]) {
    const mayClose = /^\s*[`~]*$/.test(this.#rest); // not shown, lest it vanishes again
    return [...lines, ...(mayClose ? [] : [this.#line])].join("\n");
  }

  #beginPlain(fenceLine) {
    this.#clear();
    this.#plain = make(this.#document, fenceLine ? "code" : "p", {});
    const node = fenceLine ? makeCode(this.#document, fenceOf(fenceLine).language, this.#plain) : this.#plain;
    this.#root.append(node);
    this.#tail = [node];
    this.#shown = 0;
    this.#plain.append(this.#beginPiece());
  }

  #beginPiece() {
    this.#from = this.#shown;
    return (this.#piece = this.#document.createTextNode(""));
  }

  /** Show the rest of what begins as it is shown. */
  #extend(source, isCode) {
    for (;;) {
      const end = endOfPiece(source, this.#from, isCode);
      this.#piece.appendData(source.slice(this.#shown, end));
      this.#shown = end;
      if (end === source.length) return;
      this.#plain.append(make(this.#document, "div", {}, this.#beginPiece()));
    }
  }
}
