/* Pictures of figures: enlarged by a click or by Enter, and counts in whole pixels. */
document.addEventListener("DOMContentLoaded", function () {
  var pictures = document.querySelectorAll(".insitu-view img");
  if (!pictures.length) { return; }

  function enlarge(image) {
    var large = document.createElement("dialog"), copy = new Image();
    large.className = "insitu-large";
    large.setAttribute("aria-label", image.alt);
    copy.src = image.src;
    copy.alt = image.alt;
    copy.className = image.className;
    copy.style.imageRendering = image.style.imageRendering;
    var own = image.naturalWidth, room = Math.min(innerWidth / own, innerHeight / image.naturalHeight);
    var times = image.dataset.pixels ? Math.max(Math.ceil(300 / own), Math.floor(room)) : 1;
    copy.style.width = own * times + "px";
    large.append(copy);
    large.addEventListener("click", function () { large.close(); });
    large.addEventListener("keydown", function (e) {
      if (e.key === "Escape") { large.close(); }
    });
    large.addEventListener("close", function () { large.remove(); image.focus(); });
    document.body.append(large);
    large.showModal();
  }

  /* as many screen pixels for each pixel, if that takes no more than a tenth off the width */
  function whole(image) {
    var view = image.closest(".insitu-view"), own = Number(image.dataset.pixels);
    view.style.width = "";
    var room = view.clientWidth * devicePixelRatio, times = Math.floor(room / own);
    if (times && times * own > 0.9 * room) {
      view.style.width = times * own / devicePixelRatio + "px";
      view.style.margin = "0 auto";
    }
  }

  pictures.forEach(function (image) {
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    image.title = "enlarge";
    image.addEventListener("click", function () { enlarge(image); });
    image.addEventListener("keydown", function (e) {
      if (e.key === "Enter") { enlarge(image); }
    });
  });
  function fit() {
    document.querySelectorAll(".insitu-view img[data-pixels]").forEach(whole);
  }
  addEventListener("resize", fit);
  fit();
});
