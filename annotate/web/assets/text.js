// Builds what annotate/web/render.py describes. Text only ever becomes text: no markup is parsed here.

const TAGS = new Set(
  "p h3 h4 h5 h6 blockquote pre code em strong s span ul ol li table tbody tr td".split(" "));

export function build(nodes) {
  const fragment = document.createDocumentFragment();
  for (const node of nodes) {
    if (typeof node === "string") {
      fragment.append(document.createTextNode(node));
      continue;
    }
    if (!TAGS.has(node.tag)) throw new Error(`no such element: ${node.tag}`);
    const element = document.createElement(node.tag);
    if (node.kind) element.className = node.kind;
    if (node.label) element.dataset.label = node.label;
    if (node.title) element.title = node.title;
    if (node.indent !== undefined) element.style.setProperty("--indent", node.indent);
    element.append(build(node.children));
    fragment.append(node.tag === "table" ? sideways(element) : element);
  }
  return fragment;
}

// A wide table scrolls in a box of its own.
function sideways(table) {
  const box = document.createElement("div");
  box.className = "wide";
  box.tabIndex = 0;
  box.append(table);
  return box;
}
