// The elements that reach beyond the window, except in what scrolls by itself,
// such as a table. A page that scrolls as a whole is none of these.
const scrolls = (node) =>
  ["auto", "scroll"].includes(getComputedStyle(node).overflowX);
const isInScroller = (node) => {
  while (!node.matches("article, footer")) {
    if (scrolls(node)) return true;
    node = node.parentElement;
  }
  return false;
};
const isTooWide = (node) => {
  const box = node.getBoundingClientRect();
  return box.width > 0 && box.right > innerWidth + 1 && !isInScroller(node);
};
const found = [...document.querySelectorAll("article, article *, footer *")]
  .filter(isTooWide)
  .map((node) => `${node.tagName}: ${node.textContent.trim().slice(0, 60)}`);
const width = document.documentElement.scrollWidth;
return width > innerWidth ? [`the page: ${width}`, ...found] : found;
