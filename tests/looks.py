"""What an eye would see in a figure."""


def texts_overlap(figure):
    """Pairs of labels (axis labels, titles, legend) that are drawn over each other, and labels cut off."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    labels = [t for axis in figure.axes for t in (axis.title, axis.xaxis.label, axis.yaxis.label)]
    labels += [text for legend in figure.legends for text in legend.get_texts()]
    labels += [text for text in (figure._supxlabel, figure._supylabel) if text]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in labels if t.get_text() and t.get_visible()]
    cut = [
        name for name, box in boxes if box.x0 < -1 or box.y0 < -1 or not figure.bbox.padded(1).contains(box.x1, box.y1)
    ]
    pairs = [
        (a, b)
        for i, (a, first) in enumerate(boxes)
        for b, second in boxes[i + 1 :]
        if first.padded(-1).overlaps(second)
    ]
    return pairs + cut
