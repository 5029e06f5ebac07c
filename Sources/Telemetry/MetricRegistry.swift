import Primitives

/// Where a counter or gauge of a registry is kept. Valid only in the registry that gave it.
public struct NumberHandle: Hashable, Sendable {
  let cell: Int
}

/// Where a histogram of a registry is kept. Valid only in the registry that gave it.
public struct HistogramHandle: Hashable, Sendable {
  let family: Int
  let cell: Int
}

/// Counters, gauges and histograms of one writer.
///
/// A registry is a value: its owner resolves a label set to a handle once, then counts with a plain add. To read it from
/// elsewhere the owner hands out a copy, so a reader never sees half an update and no counter needs an atomic.
public struct MetricRegistry: Sendable {
  private struct Family: Sendable {
    let definition: MetricFamily
    var cellOf: [[String]: Int] = [:]
    /// Label values in order of first use, for output without dictionary order.
    var labelValues: [[String]] = []
  }

  private var families: [Family] = []
  private var familyOf: [String: Int] = [:]
  private var cells: [UInt64] = []

  public init() {}

  /// The handle of a counter; registered on first use. Counters hold whole numbers.
  public mutating func counter(
    _ name: String, help: String, labels: KeyValuePairs<String, String> = [:]
  ) -> NumberHandle {
    NumberHandle(cell: resolve(name, help: help, kind: .counter, scale: nil, labels: labels).cell)
  }

  /// The handle of a gauge; registered on first use.
  public mutating func gauge(
    _ name: String, help: String, labels: KeyValuePairs<String, String> = [:]
  ) -> NumberHandle {
    NumberHandle(cell: resolve(name, help: help, kind: .gauge, scale: nil, labels: labels).cell)
  }

  /// The handle of a histogram; registered on first use.
  public mutating func histogram(
    _ name: String, help: String, scale: HistogramScale, labels: KeyValuePairs<String, String> = [:]
  ) -> HistogramHandle {
    let (family, cell) = resolve(name, help: help, kind: .histogram, scale: scale, labels: labels)
    return HistogramHandle(family: family, cell: cell)
  }

  /// Adds to a counter.
  public mutating func add(_ amount: UInt64 = 1, to counter: NumberHandle) { cells[counter.cell] &+= amount }

  /// Sets a gauge.
  public mutating func set(_ gauge: NumberHandle, to value: Double) { cells[gauge.cell] = value.bitPattern }

  /// Adds one observation, in the unit of the histogram's bounds.
  public mutating func observe(_ value: UInt64, in histogram: HistogramHandle) {
    guard let scale = families[histogram.family].definition.scale else { return }
    cells[histogram.cell + scale.bucket(of: value)] &+= 1
    cells[histogram.cell + scale.bounds.count + 1] &+= value
  }

  /// Every family with its series, in order of registration.
  public var snapshot: [MetricFamily] {
    families.map { family in
      var copy = family.definition
      copy.series = family.labelValues.compactMap { values in
        family.cellOf[values].map { MetricSeries(labelValues: values, value: value(at: $0, of: family.definition)) }
      }
      return copy
    }
  }

  private func value(at cell: Int, of definition: MetricFamily) -> MetricValue {
    switch (definition.kind, definition.scale) {
    case (.gauge, _): return .number(Double(bitPattern: cells[cell]))
    case (.histogram, let scale?):
      let end = cell + scale.bounds.count + 1
      return .histogram(counts: Array(cells[cell..<end]), sum: cells[end])
    default: return .number(Double(cells[cell]))
    }
  }

  private mutating func resolve(
    _ name: String, help: String, kind: MetricKind, scale: HistogramScale?, labels: KeyValuePairs<String, String>
  ) -> (family: Int, cell: Int) {
    let at = family(named: name, help: help, kind: kind, scale: scale, labelNames: labels.map(\.key))
    var values = labels.map(\.value)
    if let cell = families[at].cellOf[values] { return (at, cell) }
    if families[at].labelValues.count >= TelemetryLimits.registrySeriesMax {
      values = values.map { _ in "other" }
      if let cell = families[at].cellOf[values] { return (at, cell) }
    }
    let cell = cells.count
    let width = families[at].definition.scale.map { $0.bounds.count + 2 } ?? 1
    cells.append(contentsOf: repeatElement(0, count: width))
    families[at].cellOf[values] = cell
    families[at].labelValues.append(values)
    return (at, cell)
  }

  private mutating func family(
    named name: String, help: String, kind: MetricKind, scale: HistogramScale?, labelNames: [String]
  ) -> Int {
    if let known = familyOf[name] {
      let definition = families[known].definition
      precondition(
        definition.kind == kind && definition.labelNames == labelNames && definition.scale == scale,
        "metric \(name) is registered twice with different kinds, labels or buckets")
      return known
    }
    familyOf[name] = families.count
    families.append(
      Family(definition: MetricFamily(name: name, help: help, kind: kind, labelNames: labelNames, scale: scale)))
    return families.count - 1
  }
}
