import Primitives

/// What a family's numbers mean, as Prometheus names it.
public enum MetricKind: String, Hashable, Sendable, Codable {
  case counter, gauge, histogram
}

/// Bucket bounds of a histogram family.
///
/// Observations are integers in a finer unit than the one shown: durations are observed in nanoseconds and shown in
/// milliseconds (1,000,000 a shown unit), so cells stay integers and sums exact.
public struct HistogramScale: Hashable, Sendable {
  /// Upper bounds as shown, inclusive, ascending, without +Inf.
  public let shownBounds: [Double]
  /// Observed units in one shown unit.
  public let unitsPerShown: UInt64
  /// The bounds in observed units.
  @usableFromInline let bounds: [UInt64]

  public init(shownBounds: [Double], unitsPerShown: UInt64 = 1) {
    self.shownBounds = shownBounds
    self.unitsPerShown = max(1, unitsPerShown)
    bounds = shownBounds.map { UInt64(max(0, min($0 * Double(max(1, unitsPerShown)), 0x1p62))) }
  }

  /// The bucket a value falls in; `bounds.count` is +Inf.
  @inlinable
  public func bucket(of value: UInt64) -> Int {
    var index = 0
    while index < bounds.count && value > bounds[index] { index += 1 }
    return index
  }
}

/// One number of a series, or a histogram's.
public enum MetricValue: Hashable, Sendable {
  case number(Double)
  /// `counts` are per bucket, not cumulative; the last is +Inf. `sum` is in the scale's own unit.
  case histogram(counts: [UInt64], sum: UInt64)

  /// Adds a value of the same shape; a histogram with other bounds is left out.
  mutating func add(_ other: MetricValue) {
    switch (self, other) {
    case (.number(let a), .number(let b)): self = .number(a + b)
    case (.histogram(var counts, let sum), .histogram(let more, let moreSum)):
      guard counts.count == more.count else { return }
      for index in counts.indices { counts[index] &+= more[index] }
      self = .histogram(counts: counts, sum: sum &+ moreSum)
    default: return
    }
  }
}

/// One series: label values in the order of the family's label names.
public struct MetricSeries: Hashable, Sendable {
  public var labelValues: [String]
  public var value: MetricValue

  public init(labelValues: [String], value: MetricValue) {
    self.labelValues = labelValues
    self.value = value
  }
}

/// A metric with its series at one moment: what an exposition is written from.
public struct MetricFamily: Hashable, Sendable {
  public let name: String
  public let help: String
  public let kind: MetricKind
  public let labelNames: [String]
  /// Nil unless the kind is histogram.
  public let scale: HistogramScale?
  public var series: [MetricSeries]

  public init(
    name: String, help: String, kind: MetricKind, labelNames: [String], scale: HistogramScale? = nil,
    series: [MetricSeries] = []
  ) {
    self.name = name
    self.help = help
    self.kind = kind
    self.labelNames = labelNames
    self.scale = scale
    self.series = series
  }

  /// Adds up the same series of several workers. Families come out sorted by name, series by label values.
  ///
  /// A family that appears with two kinds or label lists keeps its first definition; the other's series are left out.
  public static func merged(_ groups: [[MetricFamily]]) -> [MetricFamily] {
    var families: [MetricFamily] = []
    var indexByName: [String: Int] = [:]
    var seriesIndex: [[[String]: Int]] = []
    for family in groups.joined() {
      let at: Int
      if let known = indexByName[family.name] {
        at = known
        guard families[at].kind == family.kind, families[at].labelNames == family.labelNames else { continue }
      } else {
        at = families.count
        indexByName[family.name] = at
        var empty = family
        empty.series = []
        families.append(empty)
        seriesIndex.append([:])
      }
      for one in family.series {
        if let index = seriesIndex[at][one.labelValues] {
          families[at].series[index].value.add(one.value)
        } else {
          seriesIndex[at][one.labelValues] = families[at].series.count
          families[at].series.append(one)
        }
      }
    }
    for index in families.indices {
      families[index].series.sort { precedes($0.labelValues, $1.labelValues) }
    }
    return families.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
  }

  private static func precedes(_ a: [String], _ b: [String]) -> Bool {
    for (x, y) in zip(a, b) where x != y { return x.utf8.lexicographicallyPrecedes(y.utf8) }
    return a.count < b.count
  }
}
