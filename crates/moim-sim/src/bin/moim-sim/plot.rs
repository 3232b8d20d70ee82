//! A small plot: two curves over the number of nodes, as SVG. Written by hand, because a page of text needs no library.

use std::fmt::Write;

/// Width and height of one panel, in pixels, without its margins.
const PANEL: (f64, f64) = (300.0, 200.0);
const MARGIN: f64 = 56.0;

/// A name, and a function of the number of nodes.
pub(crate) type Compared<'a> = (&'a str, fn(f64) -> f64);

/// A curve.
#[derive(Debug)]
pub(crate) struct Curve<'a> {
    /// What it shows, with the unit.
    pub(crate) title: &'a str,
    /// Nodes, and what was measured there.
    pub(crate) points: Vec<(f64, f64)>,
    /// A line to compare it with.
    pub(crate) compared: Option<Compared<'a>>,
}

/// Curves beside each other, over a logarithmic number of nodes.
pub(crate) fn svg(curves: &[Curve<'_>]) -> String {
    let (width, height) = PANEL;
    let whole = (2.0 * MARGIN + width, 2.0 * MARGIN + height);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <style>text {{ fill: #444 }} line {{ stroke: #ddd }} polyline {{ fill: none; stroke-width: 2 }}</style>\n",
        whole.0 * as_float(curves.len()),
        whole.1
    );
    for (at, curve) in curves.iter().enumerate() {
        let left = as_float(at) * whole.0;
        writeln!(text, "<g transform=\"translate({left} 0)\">").ok();
        panel(&mut text, curve);
        text.push_str("</g>\n");
    }
    text + "</svg>\n"
}

fn panel(text: &mut String, curve: &Curve<'_>) {
    let (width, height) = PANEL;
    let ends = |of: fn(&(f64, f64)) -> f64| curve.points.iter().map(of).fold(1.0, f64::max);
    let least = curve.points.iter().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let (most, top) = (ends(|point| point.0), nice_above(ends(|point| point.1)));
    let decades = (most / least).ln().max(f64::MIN_POSITIVE);
    let x = |nodes: f64| MARGIN + width * (nodes / least).ln() / decades;
    let y = |value: f64| MARGIN + height * (1.0 - value / top);
    writeln!(
        text,
        "<text x=\"{MARGIN}\" y=\"{}\" font-size=\"13\">{}</text>",
        MARGIN - 16.0,
        curve.title
    )
    .ok();
    for part in 0_u8..=4 {
        let value = top * f64::from(part) / 4.0;
        let (at, right) = (y(value), MARGIN + width);
        writeln!(text, "<line x1=\"{MARGIN}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>").ok();
        writeln!(
            text,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            MARGIN - 6.0,
            at + 4.0
        )
        .ok();
    }
    for &(nodes, value) in &curve.points {
        let (at, below) = (x(nodes), MARGIN + height + 16.0);
        writeln!(text, "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{nodes}</text>")
            .ok();
        writeln!(text, "<circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#1f6feb\"/>", y(value))
            .ok();
    }
    let line = |of: &dyn Fn(f64, f64) -> f64| {
        let at =
            |&(nodes, value): &(f64, f64)| format!("{:.1},{:.1}", x(nodes), y(of(nodes, value)));
        curve.points.iter().map(at).collect::<Vec<_>>().join(" ")
    };
    writeln!(text, "<polyline stroke=\"#1f6feb\" points=\"{}\"/>", line(&|_, value| value)).ok();
    if let Some((name, compared)) = curve.compared {
        let points = line(&|nodes, _| compared(nodes).min(top));
        writeln!(text, "<polyline stroke=\"#999\" stroke-dasharray=\"4 3\" points=\"{points}\"/>")
            .ok();
        let at = MARGIN + width;
        writeln!(
            text,
            "<text x=\"{at}\" y=\"{}\" text-anchor=\"end\">dashed: {name}</text>",
            MARGIN + 12.0
        )
        .ok();
    }
    let (middle, below) = (MARGIN + width / 2.0, MARGIN + height + 34.0);
    writeln!(text, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">nodes</text>").ok();
}

/// A round number above.
fn nice_above(value: f64) -> f64 {
    let step = [1.0, 2.0, 4.0, 8.0, 12.0, 20.0, 40.0, 80.0, 120.0, 200.0, 400.0];
    step.into_iter().find(|&nice| nice >= value).unwrap_or(value)
}

fn as_float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_every_point_and_its_line() {
        let curve = || Curve {
            title: "rounds",
            points: vec![(30.0, 1.6), (100.0, 2.4)],
            compared: Some(("log2 n", f64::log2)),
        };
        let text = svg(&[curve(), curve()]);
        assert_eq!(text.matches("<circle").count(), 4);
        assert_eq!(text.matches("<polyline").count(), 4);
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n") && !text.contains("NaN"));
    }
}
