/* How Sphinx ranks what a search finds. A section that has the words in its
   title comes before its page: the section of an error, for its code. All but
   the first are Sphinx's defaults. */
var Scorer = {
  score: ([, , anchor, , score]) => score + (anchor ? 1 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
