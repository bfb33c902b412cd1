import assert from "node:assert/strict";
import { test } from "node:test";

import { MarkdownView } from "../../../gateway/web/markdown.js";
import { FakeDocument } from "./fake_dom.mjs";

function rendered(text) {
  const root = new FakeDocument().createElement("div");
  const view = new MarkdownView(root);
  view.append(text);
  view.finish();
  return root;
}

const A = 'rel="noopener noreferrer" target="_blank"';
const link = (href, label = href) => `<a href="${href}" ${A}>${label}</a>`;
const code = (language, text) =>
  '<figure className="code"><figcaption>' +
  `<span>${language}</span><button className="copy-code">Copy</button></figcaption>` +
  `<pre><code>${text}</code></pre></figure>`;

const CASES = {
  "paragraphs and line breaks": ["a\nb\n\n\nc", "<p>a\nb</p><p>c</p>"],
  "CRLF": ["a\r\n\r\nb\r\n", "<p>a</p><p>b</p>"],
  "headings go below the page's own": ["# A\n## B #\n#### C\n###### D\n#no", "<h3>A</h3><h4>B</h4><h6>C</h6><h6>D</h6><p>#no</p>"],
  "bold, italic, deleted": ["**b** __b__ *i* _i_ ~~d~~", "<p><strong>b</strong> <strong>b</strong> <em>i</em> <em>i</em> <del>d</del></p>"],
  "both": ["***x*** **a *b* c** *a **b** c*", "<p><strong><em>x</em></strong> <strong>a <em>b</em> c</strong> <em>a <strong>b</strong> c</em></p>"],
  "Japanese needs no spaces around": ["これは**「重要」**です。*誠*の茶", "<p>これは<strong>「重要」</strong>です。<em>誠</em>の茶</p>"],
  "names and sums are no emphasis": ["snake_case_name 2 * 3 * 4 ** a", "<p>snake_case_name 2 * 3 * 4 ** a</p>"],
  "what does not end is text": ["**a *b `c [d ~~", "<p>**a *b `c [d ~~</p>"],
  "escapes": ["\\*a\\* \\<b\\> \\z", "<p>*a* &lt;b&gt; \\z</p>"],
  "inline code": ["`a*b*` ``c`d`` `<i>`", "<p><code>a*b*</code> <code>c`d</code> <code>&lt;i&gt;</code></p>"],
  "fenced code": ["```js\nlet a = 1;\n\n# no\n```\nafter", `${code("js", "let a = 1;\n\n# no")}<p>after</p>`],
  "code within a longer fence": ["````\n```\nx\n```\n````", code("text", "```\nx\n```")],
  "code that does not end": ["~~~\nx", code("text", "x")],
  "three ticks in a line are no fence": ["```a``` b", "<p><code>a</code> b</p>"],
  "lists": ["- a\n- b\n\n1. c\n2. d", "<ul><li>a</li><li>b</li></ul><ol><li>c</li><li>d</li></ol>"],
  "a loose list stays one list": ["- a\n\n- b", "<ul><li>a</li><li>b</li></ul>"],
  "a list may begin anywhere": ["5. a\n6. b", '<ol start="5"><li>a</li><li>b</li></ol>'],
  "nested by two, three, four spaces": ["- a\n  - b\n    - c\n1. d\n   - e\n\n* f\n    1. g", "<ul><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li></ul><ol><li>d<ul><li>e</li></ul></li></ol><ul><li>f<ol><li>g</li></ol></li></ul>"],
  "an item of several blocks": ["1. a\n\n   b\n   ```\n   - c\n   ```\n2. d", `<ol><li><p>a</p><p>b</p>${code("text", "- c")}</li><li>d</li></ol>`],
  "an item goes on in the next line": ["- a\nb\n\nc", "<ul><li>a\nb</li></ul><p>c</p>"],
  "a year begins no list": ["It was\n1986. A year.", "<p>It was\n1986. A year.</p>"],
  "a list right behind a paragraph": ["Steps:\n1. a", "<p>Steps:</p><ol><li>a</li></ol>"],
  "quotes": ["> a\n> **b**\n>\n> > c\nd", "<blockquote><p>a\n<strong>b</strong></p><blockquote><p>c</p></blockquote></blockquote><p>d</p>"],
  "a rule": ["a\n\n---\n* * *", "<p>a</p><hr></hr><hr></hr>"],
  "a table": ["| a | b |\n|---|--:|\n| 1 | `x\\|y` |\n| 2 |", '<div className="table"><table><thead><tr><th className="start">a</th><th className="end">b</th></tr></thead><tbody><tr><td className="start">1</td><td className="end"><code>x\\|y</code></td></tr><tr><td className="start">2</td></tr></tbody></table></div>'],
  "bars alone are no table": ["| a | b |\nc", "<p>| a | b |</p><p>c</p>"],
  "links": ["[a **b**](https://x.test/p?q=1#f) [m](mailto:a@x.test)", `<p>${link("https://x.test/p?q=1#f", "a <strong>b</strong>")} ${link("mailto:a@x.test", "m")}</p>`],
  "links with brackets and titles": ['[w](https://x.test/A_(b)) [t](https://x.test/ "T")', `<p>${link("https://x.test/A_(b)", "w")} ${link("https://x.test/", "t")}</p>`],
  "bare addresses": ["(see https://x.test/a_(b).) https://x.test/茶、http://y.test/。", `<p>(see ${link("https://x.test/a_(b)")}.) ${link("https://x.test/")}茶、${link("http://y.test/")}。</p>`],
  "no link within a link": ["[https://good.test](https://x.test/)", `<p>${link("https://x.test/", "https://good.test")}</p>`],
  "an image becomes a link": ["![cat](https://x.test/c.png)", `<p>${link("https://x.test/c.png", "cat")}</p>`],
};

for (const [name, [text, html]] of Object.entries(CASES)) {
  test(name, () => assert.equal(rendered(text).inside, html));

  test(`${name}, letter by letter`, () => {
    const root = new FakeDocument().createElement("div");
    const view = new MarkdownView(root);
    for (const letter of text) view.append(letter);
    view.finish();
    assert.equal(root.inside, html);
  });
}

test("text is shown while it is being written", () => {
  const root = new FakeDocument().createElement("div");
  const view = new MarkdownView(root);
  const seen = [];
  for (const piece of ["# Ti", "tle\nSome **bo", "ld**\n\n- o", "ne\n- tw", "o\n\n```js\nlet", " a;\n``", "`\nend"]) {
    view.append(piece);
    seen.push(root.inside);
  }
  assert.equal(seen[0], "<h3>Ti</h3>");
  assert.equal(seen[1], "<h3>Title</h3><p>Some **bo</p>");
  assert.equal(seen[3], "<h3>Title</h3><p>Some <strong>bold</strong></p><ul><li>one</li><li>tw</li></ul>");
  assert.ok(seen[4].endsWith(code("js", "let")));
  assert.ok(seen[5].endsWith(code("js", "let a;")), "a half fence is held back");
  assert.ok(seen[6].endsWith(`${code("js", "let a;")}<p>end</p>`));
});

const ATTACKS = [
  "<script>alert(1)</script>",
  '<img src=x onerror="alert(1)">',
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](java\tscript:alert(1))",
  "[x]( javascript:alert(1))",
  "[x](data:text/html;base64,PHNjcmlwdD4=)",
  "[x](vbscript:x) [x](file:///etc/passwd) [x](blob:https://x.test/1)",
  "[x](//evil.test) [x](/v1/demo/token) [x](?a) [x](#a)",
  "![x](javascript:alert(1))",
  '[x](https://x.test/"onmouseover="alert(1))',
  "<https://x.test> <javascript:alert(1)>",
  "```<script>\n</code></pre><script>alert(1)</script>\n```",
  "| <b>a</b> |\n|---|\n| <img onerror=x> |",
  "# <svg/onload=alert(1)>",
  "> - 1. **<iframe srcdoc=x>**",
  "`</code><script>`",
  "[<img src=x>](https://x.test)",
  "&lt;script&gt; &#x6A;avascript:",
];
const MAY_BE_MADE = new Set(
  "A BLOCKQUOTE BUTTON CODE DEL DIV EM FIGCAPTION FIGURE H3 H4 H5 H6 HR LI OL P PRE SPAN STRONG TABLE TBODY TD TH THEAD TR UL".split(" "),
);

for (const text of ATTACKS) {
  test(`text stays text: ${JSON.stringify(text)}`, () => {
    for (const element of rendered(text)) {
      assert.ok(MAY_BE_MADE.has(element.tagName), element.tagName);
      const own = Object.keys(element).filter((key) => key.startsWith("on") || key === "style" || key === "src");
      assert.deepEqual(own, []);
      if (element.tagName === "A") assert.match(element.href, /^(https?:\/\/|mailto:)/);
    }
  });
}

const HOSTILE = {
  stars: "*a ".repeat(60_000),
  "strong stars": "**a".repeat(60_000),
  underscores: "_".repeat(200_000),
  ticks: "`a``b```".repeat(20_000),
  brackets: "[".repeat(200_000),
  "half links": "[a](b".repeat(40_000),
  quotes: ">".repeat(200_000),
  "nested quotes": Array.from({ length: 300 }, (_, n) => "> ".repeat(n)).join("\n"),
  "nested lists": Array.from({ length: 300 }, (_, n) => "  ".repeat(n) + "- a").join("\n"),
  fence: "```" + "a".repeat(200_000) + "`",
  hashes: "# a" + " ".repeat(200_000) + "b",
  punctuation: "http://a" + ")".repeat(200_000) + "x",
  rows: "|-".repeat(100_000) + "x",
  pipes: "| a |\n|" + "-|".repeat(50_000) + "\n" + "|".repeat(50_000),
  spaces: "-" + " ".repeat(200_000) + "x",
  dashes: "- ".repeat(100_000),
};

for (const [name, text] of Object.entries(HOSTILE)) {
  test(`200 KB of ${name} are rendered in good time`, { timeout: 5_000 }, () => {
    const begin = performance.now();
    const root = rendered(text);
    assert.ok(root.children.length > 0);
    assert.ok(performance.now() - begin < 2_000, `${performance.now() - begin} ms`);
  });
}

for (const [name, piece] of Object.entries({
  paragraphs: "Some words in a row.\n\n",
  items: "- one more **item** of it\n",
  code: "",
  "a single line": "",
})) {
  test(`streaming ${name} renders each block a bounded number of times`, () => {
    const document = new FakeDocument();
    const view = new MarkdownView(document.createElement("div"));
    if (name === "code") view.append("```\n");
    const madePer = (pieces) => {
      const before = document.made;
      for (let n = 0; n < pieces; n++) for (const part of piece.match(/.{1,8}|\n/g) ?? ["let a = 1; "]) view.append(part);
      return (document.made - before) / pieces;
    };
    const early = madePer(1_000);
    const late = madePer(1_000);
    assert.ok(late <= early * 1.1 + 0.1, `${early} elements per piece at first, ${late} later`);
  });
}

/** The texts of the nodes that a browser lays out apart. */
function piecesIn(element) {
  const apart = ["DIV", "P"];
  const texts = element.children.filter((child) => !apart.includes(child.tagName)).map((child) => child.textContent);
  const inside = element.children.filter((child) => apart.includes(child.tagName)).flatMap(piecesIn);
  return [...(texts.length ? [texts.join("")] : []), ...inside];
}

for (const [name, [piece, isEnd]] of Object.entries({
  words: ["word and ", (text) => text.endsWith(" ")],
  sentences: ["日本語の文章。", (text) => text.endsWith("。")],
  "no end": ["誠", () => true],
  faces: ["x😀", (text) => text.isWellFormed?.() ?? true],
})) {
  test(`a paragraph of 300 KB with ${name} is in pieces, while it is being written and then`, () => {
    const root = new FakeDocument().createElement("div");
    const view = new MarkdownView(root);
    const text = piece.repeat(Math.ceil(100_000 / piece.length));
    const isPieced = (least) => {
      const pieces = piecesIn(root);
      assert.ok(pieces.length >= least, `${pieces.length} pieces`);
      assert.ok(pieces.every((each) => each.length <= 8_193), `${Math.max(...pieces.map((each) => each.length))} characters`);
      assert.ok(pieces.slice(0, -1).every(isEnd));
    };
    for (let at = 0; at < text.length; at += 99) {
      view.append(text.slice(at, at + 99));
      if (at % 9_900 === 0) assert.equal(root.textContent.trimEnd(), text.slice(0, at + 99).trimEnd());
    }
    isPieced(10);
    view.finish();
    isPieced(10);
    assert.equal(root.textContent, text.trim());
  });
}

test("a long listing is in pieces of whole lines while it is being written, and its copy is whole", () => {
  const root = new FakeDocument().createElement("div");
  const view = new MarkdownView(root);
  const lines = Array.from({ length: 1_500 }, (_, n) => `let a${n} = ${n};`);
  view.append("```js\r\n");
  for (const line of lines) for (const part of [line, "\r", "\n"]) view.append(part);
  const figure = root.lastChild;
  const [first, ...others] = figure.lastChild.lastChild.children.map((child) => child.textContent);
  assert.ok(others.length > 4);
  assert.ok([first, ...others.slice(0, -1)].every((each) => each.endsWith(";\n")));
  assert.equal([first, ...others].join("").trimEnd(), lines.join("\n"));
  view.append("```");
  view.finish();
  assert.ok(root.inside.endsWith(code("js", lines.join("\n"))));
});

test("replace shows the other text alone", () => {
  const root = new FakeDocument().createElement("div");
  const view = new MarkdownView(root);
  view.append("par\n\n```\ncode");
  view.replace("whole");
  assert.equal(root.inside, "<p>whole</p>");
});

test("what may be wider than the page can be scrolled by keyboard", () => {
  const root = rendered("```\ncode\n```\n\n| a |\n|---|\n| b |");
  const scrolled = [...root].filter(({ tabIndex }) => tabIndex === 0);
  assert.deepEqual(scrolled.map(({ tagName, className }) => className ?? tagName), ["PRE", "table"]);
});
