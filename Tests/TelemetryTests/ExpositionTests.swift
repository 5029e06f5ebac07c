import Primitives
import Telemetry
import Testing

// Prometheus text exposition format 0.0.4 and OpenMetrics 1.0.0.

private func registry() -> MetricRegistry {
  var registry = MetricRegistry()
  let calls = registry.counter(
    "mesh_calls_total", help: "Calls made.\nSecond line, back\\slash.", labels: ["peer": "n\"1\"\\\n"])
  registry.add(3, to: calls)
  registry.add(to: registry.counter("mesh_calls_total", help: "", labels: ["peer": "a"]))
  registry.set(registry.gauge("mesh_members", help: "Members."), to: 2.5)
  let scale = HistogramScale(shownBounds: [0.5, 1], unitsPerShown: 1000)
  let latency = registry.histogram("mesh_latency_seconds", help: "Latency.", scale: scale, labels: ["lane": "urgent"])
  for value: UInt64 in [100, 500, 501, 5000] { registry.observe(value, in: latency) }
  return registry
}

@Test func `a page is sorted and escaped in Prometheus text 0.0.4`() {
  let expected = #"""
    # HELP mesh_calls_total Calls made.\nSecond line, back\\slash.
    # TYPE mesh_calls_total counter
    mesh_calls_total{peer="a"} 1
    mesh_calls_total{peer="n\"1\"\\\n"} 3
    # HELP mesh_latency_seconds Latency.
    # TYPE mesh_latency_seconds histogram
    mesh_latency_seconds_bucket{lane="urgent",le="0.5"} 2
    mesh_latency_seconds_bucket{lane="urgent",le="1"} 3
    mesh_latency_seconds_bucket{lane="urgent",le="+Inf"} 4
    mesh_latency_seconds_sum{lane="urgent"} 6.101
    mesh_latency_seconds_count{lane="urgent"} 4
    # HELP mesh_members Members.
    # TYPE mesh_members gauge
    mesh_members 2.5

    """#
  #expect(Exposition.text(MetricFamily.merged([registry().snapshot])) == expected)
}

@Test func `OpenMetrics names a counter's family without _total and ends with EOF`() {
  let text = Exposition.text(MetricFamily.merged([registry().snapshot]), format: .openMetrics)
  #expect(text.hasPrefix("# HELP mesh_calls Calls made."))
  #expect(text.contains("# TYPE mesh_calls counter\nmesh_calls_total{peer=\"a\"} 1\n"))
  #expect(text.hasSuffix("mesh_members 2.5\n# EOF\n"))
}

@Test(arguments: [
  ("", ExpositionFormat.prometheus), ("*/*", .prometheus), ("text/plain", .prometheus),
  ("application/openmetrics-text", .openMetrics),
  ("text/plain;q=0.5, application/openmetrics-text; version=1.0.0;q=0.75", .openMetrics),
  ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.8", .prometheus),
  ("application/openmetrics-text;q=0", .prometheus), ("APPLICATION/OPENMETRICS-TEXT", .openMetrics), ("text/html", .prometheus),
  ("application/openmetrics-text;q=abc", .openMetrics), (",;,;q=", .prometheus),
])
func `the format follows the Accept header`(accept: String, expected: ExpositionFormat) {
  #expect(ExpositionFormat(accept: Array(accept.utf8)) == expected)
}

@Test func `the same series of several workers are added up`() {
  let merged = MetricFamily.merged([registry().snapshot, registry().snapshot])
  let text = Exposition.text(merged)
  #expect(text.contains("mesh_calls_total{peer=\"a\"} 2\n"))
  #expect(text.contains("mesh_latency_seconds_bucket{lane=\"urgent\",le=\"+Inf\"} 8\n"))
  #expect(text.contains("mesh_members 5\n"))
}

@Test func `beyond the limit series of a registry count as other`() {
  var registry = MetricRegistry()
  for index in 0..<(TelemetryLimits.registrySeriesMax + 50) {
    registry.add(to: registry.counter("c_total", help: "", labels: ["host": "h\(index)"]))
  }
  let family = registry.snapshot[0]
  #expect(family.series.count == TelemetryLimits.registrySeriesMax + 1)
  #expect(family.series.first { $0.labelValues == ["other"] }?.value == .number(50))
}

@Test func `a copy taken by a reader does not change while the owner counts on`() {
  var registry = MetricRegistry()
  let handle = registry.counter("c_total", help: "")
  registry.add(to: handle)
  let copy = registry
  registry.add(5, to: handle)
  #expect(copy.snapshot[0].series[0].value == .number(1))
  #expect(registry.snapshot[0].series[0].value == .number(6))
}

@Test func `an overlong label value is cut to valid text`() {
  let long = String(repeating: "é", count: TelemetryLimits.labelValueBytesMax)
  let family = MetricFamily(
    name: "m", help: "h", kind: .gauge, labelNames: ["l"], series: [MetricSeries(labelValues: [long], value: .number(1))])
  let text = Exposition.text([family])
  #expect(text.utf8.count < TelemetryLimits.labelValueBytesMax + 100)
}
