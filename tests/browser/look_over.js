// What is wrong with this page, in words; run in it by the tests.
const faults = [];
const all = (selector) => [...document.querySelectorAll(selector)];
const count = (selector, wanted) => {
  const found = all(selector).length;
  if (found !== wanted) faults.push(`${found} of ${selector}`);
};
if (document.documentElement.lang !== "en") faults.push("no language");
if (!document.title) faults.push("no title");
if (document.compatMode !== "CSS1Compat") faults.push("no doctype");
count("h1", 1);
count("main", 1);
for (const field of all("input:not([type=hidden]), select, textarea")) {
  if (field.labels.length !== 1) faults.push(`${field.labels.length} labels of ${field.name}`);
}
for (const named of all("a, button")) if (!named.textContent.trim()) faults.push("a nameless link or button");
for (const image of all("img")) if (!image.alt) faults.push("a picture without words");
for (const moved of all("[tabindex]:not([tabindex='-1']), [accesskey], [autofocus]")) faults.push(`focus moved by ${moved.outerHTML}`);
const ids = all("[id]").map((element) => element.id);
for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`id ${id} twice`);
let level = 0;
for (const heading of all("h1, h2, h3, h4")) {
  const own = Number(heading.tagName[1]);
  if (own > level + 1) faults.push(`${heading.tagName} after level ${level}`);
  level = own;
}
for (const inline of all("[style], style, script:not([src])")) faults.push(`inline ${inline.outerHTML}`);
if (document.scrollingElement.scrollWidth > window.innerWidth) faults.push("wider than the window");
return faults;
