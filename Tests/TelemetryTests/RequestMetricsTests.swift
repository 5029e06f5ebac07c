import Primitives
import Telemetry
import Testing

// compatibility 1.

private let productpage = WorkloadLabels(
  workload: "productpage-v1", namespace: "default", principal: "spiffe://cluster.local/ns/default/sa/productpage",
  app: "productpage", version: "v1", canonicalService: "productpage", canonicalRevision: "v1", cluster: "bookinfo")
private let reviews = ServiceLabels(host: "reviews.default.svc.cluster.local", name: "reviews", namespace: "default")

private func flow(_ service: ServiceLabels = reviews, to destination: WorkloadLabels = .unknown) -> FlowLabels {
  FlowLabels(reporter: .source, source: productpage, destination: destination, service: service)
}

private func family(_ name: String, _ metrics: RequestMetrics) -> MetricFamily? {
  metrics.snapshot.first { $0.name == name }
}

@Test func `a request is one line with every standard label in order`() {
  var metrics = RequestMetrics()
  metrics.record(
    metrics.flow(flow()),
    RequestOutcome(
      requestProtocol: .http, responseCode: 503, flags: [.upstreamConnectionFailure, .upstreamRetryLimitExceeded]),
    duration: .milliseconds(7), requestBytes: 300, responseBytes: 200)
  let text = Exposition.text(metrics.snapshot.filter { $0.name == "istio_requests_total" })
  let labels = [
    #"reporter="source""#, #"source_workload="productpage-v1""#, #"source_canonical_service="productpage""#,
    #"source_canonical_revision="v1""#, #"source_workload_namespace="default""#,
    #"source_principal="spiffe://cluster.local/ns/default/sa/productpage""#, #"source_app="productpage""#,
    #"source_version="v1""#, #"source_cluster="bookinfo""#, #"destination_workload="unknown""#,
    #"destination_workload_namespace="unknown""#, #"destination_principal="unknown""#, #"destination_app="unknown""#,
    #"destination_version="unknown""#, #"destination_service="reviews.default.svc.cluster.local""#,
    #"destination_canonical_service="unknown""#, #"destination_canonical_revision="latest""#,
    #"destination_service_name="reviews""#, #"destination_service_namespace="default""#, #"destination_cluster="unknown""#,
    #"request_protocol="http""#, #"response_code="503""#, #"grpc_response_status="""#, #"response_flags="UF,URX""#,
    #"connection_security_policy="unknown""#,
  ]
  #expect(text.split(separator: "\n").last == "istio_requests_total{\(labels.joined(separator: ","))} 1")
}

@Test func `the three histograms have Istio's buckets and their own units`() throws {
  var metrics = RequestMetrics()
  metrics.record(
    metrics.flow(flow()), RequestOutcome(requestProtocol: .http, responseCode: 200), duration: .microseconds(5500),
    requestBytes: 300, responseBytes: 0)
  let lines = Exposition.text(metrics.snapshot).split(separator: "\n").map(String.init)
  func value(_ name: String, _ le: String) -> String? {
    lines.first { $0.hasPrefix(name + "_bucket{") && $0.contains("le=\"\(le)\"") }?.split(separator: " ").last.map(String.init)
  }
  #expect(value("istio_request_duration_milliseconds", "5") == "0")
  #expect(value("istio_request_duration_milliseconds", "10") == "1")
  #expect(value("istio_request_bytes", "250") == "0")
  #expect(value("istio_request_bytes", "500") == "1")
  #expect(value("istio_response_bytes", "0.5") == "1")
  #expect(value("istio_request_duration_milliseconds", "3600000") == "1")
  #expect(lines.contains { $0.hasPrefix("istio_request_duration_milliseconds_sum{") && $0.hasSuffix(" 5.5") })
  #expect(lines.count { $0.hasPrefix("istio_request_bytes_bucket{") } == 20)
}

@Test func `a flow is resolved once and its series are told apart by outcome`() {
  var metrics = RequestMetrics()
  let one = metrics.flow(flow())
  #expect(metrics.flow(flow()) == one)
  for code: UInt16 in [200, 200, 404] {
    metrics.record(
      one, RequestOutcome(requestProtocol: .http, responseCode: code), duration: .zero, requestBytes: 1, responseBytes: 1)
  }
  metrics.record(
    one, RequestOutcome(requestProtocol: .grpc, responseCode: 200, grpcStatus: 0), duration: .zero, requestBytes: 1,
    responseBytes: 1)
  let counts = family("istio_requests_total", metrics)?.series.map(\.value)
  #expect(counts == [.number(2), .number(1), .number(1)])
}

@Test func `gRPC messages and TCP bytes have their own families`() {
  var metrics = RequestMetrics()
  let one = metrics.flow(flow())
  metrics.recordMessages(
    one, RequestOutcome(requestProtocol: .grpc, responseCode: 200, grpcStatus: 0), requests: 2, responses: 3)
  metrics.recordTCP(one, security: .mutualTLS, opened: 1)
  metrics.recordTCP(one, security: .mutualTLS, closed: 1, sentBytes: 10, receivedBytes: 20)
  #expect(family("istio_response_messages_total", metrics)?.series.map(\.value) == [.number(3)])
  #expect(family("istio_tcp_sent_bytes_total", metrics)?.series.map(\.value) == [.number(10)])
  #expect(family("istio_tcp_connections_opened_total", metrics)?.series[0].labelValues.suffix(2) == ["-", "mutual_tls"])
  #expect(family("istio_tcp_sent_bytes_total", metrics)?.labelNames.contains("response_code") == false)
}

@Test func `names a client chose are capped and then counted as other`() {
  var metrics = RequestMetrics()
  let outcome = RequestOutcome(requestProtocol: .http, responseCode: 200)
  for index in 0..<5000 {
    let service = ServiceLabels(host: "h\(index).evil", name: "PassthroughCluster", namespace: "", isRegistered: false)
    metrics.record(metrics.flow(flow(service)), outcome, duration: .zero, requestBytes: 0, responseBytes: 0)
  }
  let series = family("istio_requests_total", metrics)?.series ?? []
  #expect(series.count == TelemetryLimits.unregisteredServicesMax + 1)
  let other = series.first { $0.labelValues.contains("other") }
  #expect(other?.value == .number(Double(5000 - TelemetryLimits.unregisteredServicesMax)))
}

@Test func `series beyond the limit are counted without detail, and none is lost`() {
  var metrics = RequestMetrics()
  let one = metrics.flow(flow())
  let count = TelemetryLimits.requestSeriesMax + 500
  for index in 0..<count {
    let outcome = RequestOutcome(
      requestProtocol: .http, responseCode: UInt16(index % 1000), flags: ResponseFlags(rawValue: UInt32(index / 1000)))
    metrics.record(one, outcome, duration: .zero, requestBytes: 0, responseBytes: 0)
  }
  let series = family("istio_requests_total", metrics)?.series ?? []
  #expect(series.count == TelemetryLimits.requestSeriesMax + 1)
  let total = series.reduce(0.0) { sum, one in if case .number(let value) = one.value { sum + value } else { sum } }
  #expect(total == Double(count))
}

@Test func `workers are merged by labels, not by flow number`() {
  var a = RequestMetrics()
  var b = RequestMetrics()
  _ = b.flow(flow(.unknown))
  let outcome = RequestOutcome(requestProtocol: .http, responseCode: 200)
  a.record(a.flow(flow()), outcome, duration: .milliseconds(1), requestBytes: 1, responseBytes: 1)
  b.record(b.flow(flow()), outcome, duration: .milliseconds(2), requestBytes: 1, responseBytes: 1)
  let merged = MetricFamily.merged([a.snapshot, b.snapshot])
  #expect(merged.first { $0.name == "istio_requests_total" }?.series.map(\.value) == [.number(2)])
}
