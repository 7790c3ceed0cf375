// What tests ask of a page, in one object.
const texts = (selector, attribute) =>
  [...document.querySelectorAll(selector)].map((node) => node[attribute]);
return {
  title: document.title,
  anchors: texts("[id]", "id"),
  links: texts("a[href]", "href"),
  named: texts("article a[href]", "href"),
  licences: texts("a[rel=license]", "textContent"),
  loaded: performance.getEntriesByType("resource").map((entry) => entry.name),
};
