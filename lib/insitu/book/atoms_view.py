"""Atoms in three dimensions on the page: turned by mouse, touch or keys, a picture in print."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from numpy.typing import ArrayLike, NDArray

ATOM_COLOURS = {"Pt": "#A6A6A6", "Ce": "#E69F00", "O": "#D55E00"}
RADII = {"O": 0.7, "Pt": 1.35, "Ce": 1.2}  # as drawn [A]


def particle_view(
    positions: ArrayLike, symbols: Sequence[str], *, alt: str, size: int = 420, start: int = 0
) -> None:
    """Atoms in three dimensions, to be turned by the mouse, by touch or by the arrow keys.

    Parameters
    ----------
    positions : (n, 3) array
        x to the right, y down, z along the beam, away from the viewer [A].
    symbols : sequence of str
        Of each atom.
    alt : str
        What is to be seen.
    size : int
        Width and height on the screen.
    start : int
        Degrees about the vertical axis from which the view starts; 0 is along the beam.
    """
    points = np.asarray(positions, dtype=float)
    points = points - (points.min(0) + points.max(0)) / 2
    kinds = sorted(set(symbols))
    page = _VIEW.format(
        points=html.escape(json.dumps(np.rint(points * 20).astype(int).ravel().tolist())),
        kinds=html.escape(json.dumps([kinds.index(s) for s in symbols])),
        radii=html.escape(json.dumps([RADII.get(k, 1.1) * 20 for k in kinds])),
        colours=html.escape(json.dumps([ATOM_COLOURS.get(k, "#56B4E9") for k in kinds])),
        legend="".join(
            f'<span><i style="background: {ATOM_COLOURS.get(k, "#56B4E9")}"></i> {html.escape(k)}'
            "</span>"
            for k in kinds
        ),
        alt=html.escape(alt, quote=True),
        size=size,
        start=start,
        png=base64.b64encode(_still(points, symbols, start)).decode(),
    )
    display({"text/html": page, "text/plain": alt}, raw=True)


def _still(points: NDArray[np.float64], symbols: Sequence[str], angle: float) -> bytes:
    """Return the same view as a picture, for print and for readers without scripts."""
    turn = np.deg2rad(angle)
    x = np.cos(turn) * points[:, 0] + np.sin(turn) * points[:, 2]
    order = np.argsort(-(np.cos(turn) * points[:, 2] - np.sin(turn) * points[:, 0]))
    figure, axis = plt.subplots(figsize=(4.2, 4.2))
    reach = 1.05 * np.abs(points).max()
    width = np.array([RADII.get(symbols[i], 1.1) for i in order])
    axis.scatter(
        x[order],
        points[order, 1],
        s=(width * 300 / reach) ** 2 / 2,
        linewidths=0.2,
        c=[ATOM_COLOURS.get(symbols[i], "#56B4E9") for i in order],
        edgecolors="black",
    )
    axis.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal")
    axis.axis("off")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white", dpi=80, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()


_VIEW = """\
<figure class="insitu-atoms" data-points="{points}" data-kinds="{kinds}" data-radii="{radii}"
 data-colours="{colours}" data-start="{start}">
<style>
.insitu-atoms {{ margin: 0 0 1em; max-width: {size}px; }}
.insitu-atoms canvas {{ display: none; width: 100%; background: #fff; touch-action: pan-y;
  cursor: grab; border-radius: 4px; }}
.insitu-atoms.live canvas {{ display: block; }}
.insitu-atoms.live img {{ display: none; }}
.insitu-atoms .legend {{ display: flex; gap: 1.2em; flex-wrap: wrap; }}
.insitu-atoms .legend i {{ display: inline-block; width: 0.8em; height: 0.8em;
  border: 1px solid #000; border-radius: 50%; }}
</style>
<img class="dark-light" alt="{alt}" src="data:image/png;base64,{png}">
<canvas class="dark-light" width="840" height="840" tabindex="0" role="img" aria-label="{alt}
Turn it with the arrow keys."></canvas>
<div class="legend">{legend}<span class="hint">turn by mouse, touch or arrow keys</span></div>
<script>
(function () {{
  document.querySelectorAll(".insitu-atoms:not(.live)").forEach(function (figure) {{
    var data = figure.dataset, points = JSON.parse(data.points), kinds = JSON.parse(data.kinds);
    var radii = JSON.parse(data.radii), colours = JSON.parse(data.colours), n = kinds.length;
    var canvas = figure.querySelector("canvas"), draw = canvas.getContext("2d");
    var yaw = Number(data.start) * Math.PI / 180, pitch = 0, reach = 0, i;
    for (i = 0; i < n; i++) {{
      reach = Math.max(reach, Math.hypot(points[3 * i], points[3 * i + 1], points[3 * i + 2]));
    }}
    var scale = canvas.width / 2 / (reach + 40), half = canvas.width / 2;
    function paint() {{
      var cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
      var atoms = [];
      for (i = 0; i < n; i++) {{
        var x = points[3 * i], y = points[3 * i + 1], z = points[3 * i + 2];
        var u = cy * x + sy * z, w = cy * z - sy * x;
        atoms.push([u, cp * y - sp * w, cp * w + sp * y, kinds[i]]);
      }}
      atoms.sort(function (a, b) {{ return b[2] - a[2]; }});
      draw.clearRect(0, 0, canvas.width, canvas.height);
      draw.strokeStyle = "#000";
      atoms.forEach(function (a) {{
        draw.beginPath();
        draw.arc(half + scale * a[0], half + scale * a[1], scale * radii[a[3]], 0, 6.2832);
        draw.fillStyle = colours[a[3]];
        draw.fill();
        draw.stroke();
      }});
    }}
    function turn(a, b) {{
      yaw += a;
      pitch = Math.max(-1.5, Math.min(1.5, pitch + b));
      requestAnimationFrame(paint);
    }}
    canvas.addEventListener("pointerdown", function (e) {{
      canvas.setPointerCapture(e.pointerId);
    }});
    canvas.addEventListener("pointermove", function (e) {{
      if (e.buttons) {{ turn(e.movementX / 120, e.movementY / 120); }}
    }});
    canvas.addEventListener("keydown", function (e) {{
      var step = {{ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1],
        ArrowDown: [0, 0.1]}}[e.key];
      if (step) {{ e.preventDefault(); turn(step[0], step[1]); }}
    }});
    figure.classList.add("live");
    paint();
  }});
}})();
</script>
</figure>"""
