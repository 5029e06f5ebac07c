import Primitives

/// The two text formats a scraper may ask for.
public enum ExpositionFormat: Hashable, Sendable {
  /// Prometheus text 0.0.4.
  case prometheus
  /// OpenMetrics 1.0.0.
  case openMetrics

  public var contentType: String {
    switch self {
    case .prometheus: "text/plain; version=0.0.4; charset=utf-8"
    case .openMetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8"
    }
  }

  /// OpenMetrics when the `Accept` header prefers it to plain text, else 0.0.4.
  public init(accept: some Collection<UInt8>) {
    var best = (quality: -1, format: ExpositionFormat.prometheus)
    for range in accept.split(separator: 0x2C) {
      let parts = range.split(separator: 0x3B).map { Self.trimmedLowercase($0) }
      guard let type = parts.first else { continue }
      let format: ExpositionFormat
      switch type {
      case "application/openmetrics-text": format = .openMetrics
      case "text/plain", "text/*", "*/*": format = .prometheus
      default: continue
      }
      let quality = parts.dropFirst().lazy.compactMap(Self.quality).first ?? 1000
      if quality > best.quality { best = (quality, format) }
    }
    self = best.quality > 0 ? best.format : .prometheus
  }

  private static func trimmedLowercase(_ bytes: some Collection<UInt8>) -> String {
    String(decoding: bytes.filter { $0 != 0x20 && $0 != 0x09 }.map(ASCII.lowercased), as: UTF8.self)
  }

  /// Thousandths of a `q=` parameter; nil for another parameter.
  private static func quality(_ parameter: String) -> Int? {
    guard parameter.hasPrefix("q="), let value = Double(parameter.dropFirst(2)), value >= 0, value <= 1 else { return nil }
    return Int(value * 1000)
  }
}

/// Writes metric families as Prometheus text. Output depends only on the families given, in their order.
public enum Exposition {
  public static func append(_ families: [MetricFamily], format: ExpositionFormat, to out: inout [UInt8]) {
    for family in families where !family.series.isEmpty { append(family, format: format, to: &out) }
    if format == .openMetrics { out.append(contentsOf: "# EOF\n".utf8) }
  }

  /// The whole page as text.
  public static func text(_ families: [MetricFamily], format: ExpositionFormat = .prometheus) -> String {
    var out: [UInt8] = []
    append(families, format: format, to: &out)
    return String(decoding: out, as: UTF8.self)
  }

  private static func append(_ family: MetricFamily, format: ExpositionFormat, to out: inout [UInt8]) {
    // OpenMetrics names a counter's family without the `_total` of its sample.
    let isBareCounter = format == .openMetrics && family.kind == .counter
    let title = isBareCounter && family.name.hasSuffix("_total") ? String(family.name.dropLast(6)) : family.name
    let sample = isBareCounter ? title + "_total" : family.name
    out.append(contentsOf: "# HELP \(title) ".utf8)
    appendEscaped(family.help, quotes: format == .openMetrics, to: &out)
    out.append(contentsOf: "\n# TYPE \(title) \(family.kind.rawValue)\n".utf8)
    for series in family.series {
      switch series.value {
      case .number(let value):
        appendName(sample, labels: family.labelNames, values: series.labelValues, to: &out)
        appendLineEnd(value, to: &out)
      case .histogram(let counts, let sum):
        if let scale = family.scale { appendHistogram(family, series, counts, sum, scale, to: &out) }
      }
    }
  }

  private static func appendHistogram(
    _ family: MetricFamily, _ series: MetricSeries, _ counts: [UInt64], _ sum: UInt64, _ scale: HistogramScale,
    to out: inout [UInt8]
  ) {
    var cumulative: UInt64 = 0
    for (index, count) in counts.enumerated() {
      cumulative &+= count
      let bound = index < scale.shownBounds.count ? decimal(scale.shownBounds[index]) : "+Inf"
      appendName(family.name + "_bucket", labels: family.labelNames, values: series.labelValues, le: bound, to: &out)
      appendLineEnd(Double(cumulative), to: &out)
    }
    appendName(family.name + "_sum", labels: family.labelNames, values: series.labelValues, to: &out)
    appendLineEnd(Double(sum) / Double(scale.unitsPerShown), to: &out)
    appendName(family.name + "_count", labels: family.labelNames, values: series.labelValues, to: &out)
    appendLineEnd(Double(cumulative), to: &out)
  }

  private static func appendName(
    _ name: String, labels: [String], values: [String], le: String? = nil, to out: inout [UInt8]
  ) {
    out.append(contentsOf: name.utf8)
    if labels.isEmpty && le == nil { return }
    out.append(0x7B)
    var isFirst = true
    for (label, value) in zip(labels, values) {
      if !isFirst { out.append(0x2C) }
      isFirst = false
      out.append(contentsOf: label.utf8)
      out.append(contentsOf: "=\"".utf8)
      appendEscaped(value, quotes: true, to: &out)
      out.append(0x22)
    }
    if let le {
      out.append(contentsOf: (isFirst ? "le=\"\(le)\"" : ",le=\"\(le)\"").utf8)
    }
    out.append(0x7D)
  }

  private static func appendLineEnd(_ value: Double, to out: inout [UInt8]) {
    out.append(0x20)
    out.append(contentsOf: decimal(value).utf8)
    out.append(0x0A)
  }

  /// Backslash, line feed and (in label values) the double quote are escaped (exposition format 0.0.4).
  private static func appendEscaped(_ text: String, quotes: Bool, to out: inout [UInt8]) {
    let max = TelemetryLimits.labelValueBytesMax
    let kept = text.utf8.count <= max ? text : String(decoding: text.utf8.prefix(max), as: UTF8.self)
    for byte in kept.utf8 {
      switch byte {
      case 0x5C: out.append(contentsOf: [0x5C, 0x5C])
      case 0x0A: out.append(contentsOf: [0x5C, 0x6E])
      case 0x22 where quotes: out.append(contentsOf: [0x5C, 0x22])
      default: out.append(byte)
      }
    }
  }

  private static func decimal(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if value == value.rounded(), abs(value) < 0x1p53 { return String(Int64(value)) }
    return value.description
  }
}
