"""The drawings that explain a concept before it is computed, as SVG beside this file.

- `kit`: canvas, words, arrows, boxes and small pictures, in the style of the book's figures
- `recording`: the microscope, one pixel's counts, the flow of the book
- `networks`: convolution, U-Net, blind spot, sums along the motion
- `evidence`: counts held back, double dipping
- `tomography`: tilts, missing wedge and the order of tilts

`python -m book.drawings` in the book's folder draws them anew.
"""
