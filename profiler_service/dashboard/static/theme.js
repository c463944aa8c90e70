// Runs before the page is painted: the theme that was chosen here, if any.
"use strict";
const chosen = localStorage.getItem("lhp-theme");
if (chosen) document.documentElement.dataset.theme = chosen;
