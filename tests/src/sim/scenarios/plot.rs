//! Lines over two axes, as SVG: enough for the three plots of the report, and nothing more.
//!
//! Owns the layout. The invariant: the same points give the same bytes.

use std::fmt::Write;

/// The picture's size.
const WIDTH: f64 = 640.0;
/// See [`WIDTH`].
const HEIGHT: f64 = 400.0;
/// Room for the axes' words: left and below.
const MARGIN: f64 = 60.0;
/// Room above and to the right.
const EDGE: f64 = 30.0;
/// How many lines the vertical axis has.
const LINES: u32 = 5;

/// A plot.
#[derive(Clone, PartialEq, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub x: String,
    /// The vertical axis.
    pub y: String,
    /// Whether equal steps to the right are equal factors.
    pub logarithmic: bool,
    /// The points, from left to right. On a logarithmic axis those at 0 and below are left out.
    pub points: Vec<(f64, f64)>,
}

impl Plot {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let scale = |x: f64| if self.logarithmic { x.log10() } else { x };
        let shown = |point: &&(f64, f64)| !self.logarithmic || point.0 > 0.0;
        let points: Vec<_> = self.points.iter().filter(shown).copied().collect();
        let xs = || points.iter().map(|(x, _)| scale(*x));
        let across = Span::of(xs(), false);
        let up = Span::of(points.iter().map(|(_, y)| *y), true);
        let at = |x: f64, y: f64| {
            let right = MARGIN + across.share(scale(x)) * (WIDTH - MARGIN - EDGE);
            let down = HEIGHT - MARGIN - up.share(y) * (HEIGHT - MARGIN - EDGE);
            (right, down)
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        text(&mut svg, (WIDTH / 2.0, 18.0), "middle", &self.title);
        text(&mut svg, (WIDTH / 2.0, HEIGHT - 12.0), "middle", &self.x);
        text(&mut svg, (8.0, 18.0), "start", &self.y);
        for line in 0..=LINES {
            let y = up.low + (up.high - up.low) * f64::from(line) / f64::from(LINES);
            let down = HEIGHT - MARGIN - up.share(y) * (HEIGHT - MARGIN - EDGE);
            let right = WIDTH - EDGE;
            // Writing to a string cannot fail.
            let _ = writeln!(
                svg,
                "<line x1=\"{MARGIN}\" y1=\"{down:.1}\" x2=\"{right}\" y2=\"{down:.1}\" stroke=\"#ccc\"/>"
            );
            text(&mut svg, (MARGIN - 6.0, down + 4.0), "end", &short(y));
        }
        let mut path = String::new();
        for (x, y) in &points {
            let (right, down) = at(*x, *y);
            let _ = write!(path, "{right:.1},{down:.1} ");
            let _ = writeln!(
                svg,
                "<circle cx=\"{right:.1}\" cy=\"{down:.1}\" r=\"3\" fill=\"#036\"/>"
            );
            text(
                &mut svg,
                (right, HEIGHT - MARGIN + 18.0),
                "middle",
                &short(*x),
            );
        }
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#036\" stroke-width=\"1.5\"/>\n</svg>",
            path.trim_end()
        );
        svg
    }
}

/// From where to where an axis goes.
struct Span {
    low: f64,
    high: f64,
}

impl Span {
    /// The span of some numbers, from 0 on if `from_zero` and none is below. One number alone gets room around it.
    fn of(numbers: impl Iterator<Item = f64>, from_zero: bool) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for number in numbers {
            (low, high) = (low.min(number), high.max(number));
        }
        if from_zero {
            low = low.min(0.0);
        }
        if !low.is_finite() || !high.is_finite() {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-9 {
            (low, high) = (low - 0.5, high + 0.5);
        }
        Self { low, high }
    }

    fn share(&self, number: f64) -> f64 {
        (number - self.low) / (self.high - self.low)
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

/// A number with at most two decimals.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Plot, short};

    fn plot(points: &[(f64, f64)]) -> Plot {
        Plot {
            title: "hops < 4 & more".to_owned(),
            x: "nodes".to_owned(),
            y: "hops".to_owned(),
            logarithmic: true,
            points: points.to_vec(),
        }
    }

    #[test]
    fn equal_factors_are_equal_steps_and_zero_is_below() {
        let svg = plot(&[(100.0, 2.0), (1_000.0, 3.0), (10_000.0, 4.0)]).svg();
        // From 60 to 610 across, and from 340 (0) to 30 (4) up.
        for point in ["60.0,185.0", "335.0,107.5", "610.0,30.0"] {
            assert!(svg.contains(point), "{point} in {svg}");
        }
        assert!(svg.contains("hops &lt; 4 &amp; more"));
    }

    #[test]
    fn few_points_or_none_are_drawn_all_the_same() {
        for points in [&[][..], &[(10.0, 0.0)], &[(0.0, 1.0)]] {
            let svg = plot(points).svg();
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
        }
        assert_eq!(
            (short(0.5), short(1_200.0)),
            ("0.5".to_owned(), "1200".to_owned())
        );
    }
}
