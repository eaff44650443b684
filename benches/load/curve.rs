//! Curves: figures over the size of what grows, drawn as SVG with logarithmic axes.

use std::fs;
use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

/// The size of an image, in pixels.
const IMAGE: (u32, u32) = (720, 440);
const COLORS: [RGBColor; 5] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
];

/// Values over sizes.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    /// The name of the file.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What grows.
    pub(crate) sizes: &'static str,
    /// The value and its unit.
    pub(crate) values: &'static str,
    /// The largest value that is good at every size.
    pub(crate) bound: Option<f64>,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Curve {
    pub(crate) fn new(
        name: &'static str,
        title: &'static str,
        sizes: &'static str,
        values: &'static str,
        bound: Option<f64>,
    ) -> Self {
        Self { name, title, sizes, values, bound, lines: Vec::new() }
    }

    /// Adds a point to the line with this name.
    pub(crate) fn add(&mut self, line: &str, size: u32, value: f64) {
        let point = (f64::from(size), value);
        match self.lines.iter_mut().find(|known| known.name == line) {
            Some(line) => line.points.push(point),
            None => self.lines.push(Line { name: line.to_owned(), points: vec![point] }),
        }
    }

    /// Writes the image to a folder.
    pub(crate) fn draw(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let file = folder.join(format!("{}.svg", self.name));
        self.draw_on(&SVGBackend::new(&file, IMAGE).into_drawing_area()).unwrap();
    }

    fn draw_on<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let sizes = range(points().map(|(size, _)| *size));
        let values = range(points().map(|(_, value)| *value).chain(self.bound));
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(sizes.clone().log_scale(), values.log_scale())?;
        chart
            .configure_mesh()
            .x_desc(self.sizes)
            .y_desc(self.values)
            .x_label_formatter(&|size| short(*size))
            .y_label_formatter(&|value| short(*value))
            .draw()?;
        if let Some(bound) = self.bound {
            let ends = [(sizes.start, bound), (sizes.end, bound)];
            chart
                .draw_series(DashedLineSeries::new(ends, 6, 4, BLACK.stroke_width(1)))?
                .label(format!("bound: {}", short(bound)))
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK));
        }
        for (line, color) in self.lines.iter().zip(COLORS.iter().cycle()) {
            let color = *color;
            chart
                .draw_series(LineSeries::new(line.points.clone(), color.stroke_width(2)))?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
            let dots = line.points.iter().map(|point| Circle::new(*point, 3, color.filled()));
            chart.draw_series(dots)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        area.present()
    }
}

/// The range of an axis, with some space at both ends.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (min, max) =
        values.fold((f64::MAX, f64::MIN_POSITIVE), |(min, max), v| (v.min(min), v.max(max)));
    min / 1.6..max * 3.0
}

/// A number as people write it: `0.5`, `20`, `10k`, `1M`.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", rounded(v / 1e6)),
        v if v >= 1e3 => format!("{}k", rounded(v / 1e3)),
        v => rounded(v),
    }
}

fn rounded(value: f64) -> String {
    match value {
        v if v >= 10.0 => format!("{v:.0}"),
        v => format!("{}", (v * 1_000.0).round() / 1_000.0),
    }
}
