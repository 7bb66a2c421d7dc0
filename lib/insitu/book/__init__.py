"""The pages of the book, and the `insitu` command.

- `contents`: the chapters that `_toc.yml` lists, and where their results go
- `parameters`: the declarations in a parameters cell, and their checks
- `chapter`: a chapter's start, its results and provenance
- `figures`: `show`, `table`, panels with common grey levels, scale bars, the scrubber
- `charts`: rows of dots, which say more at a glance than those of a table
- `scales`: units, scale bars and colour bars of a figure, as text
- `tiles`: a figure as HTML, with a number and a caption, that a phone can show
- `png`: pictures in few bytes
- `atoms`: atoms in three dimensions on the page
- `sliders`: a table of answers with a slider for each thing that they depend on
- `freshness`: whether a page's outputs are those of its code and data
- `runs`: chapters run with values from files and the command line, and pages refreshed
- `prose`: numbers in the text of a page, written anew by each run
- `exercises`: a reader's number checked, with a hint at the likely mistake
- `answers`: what the answers should be, and what mistakes lead to
- `student`: the book without the solutions of its exercises
- `bundle`: the whole book as one file, for a room without network
- `doctor`: what this machine has, and what will run on it
- `cli`: the `insitu` command
"""
