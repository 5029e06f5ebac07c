import FoundationEssentials
import Primitives
import Telemetry
import Testing

// compatibility 4.

private struct Texts: AccessLogTexts {
  var values: [AccessLogText: [UInt8]] = [:]
  func append(_ field: AccessLogText, to out: inout [UInt8]) { out.append(contentsOf: values[field] ?? []) }
}

private func line(_ format: AccessLogFormat, _ record: AccessLogRecord, _ values: [AccessLogText: String]) -> String {
  line(format, record, bytes: values.mapValues { Array($0.utf8) })
}

private func line(_ format: AccessLogFormat, _ record: AccessLogRecord, bytes: [AccessLogText: [UInt8]]) -> String {
  var out: [UInt8] = []
  var writer = AccessLogWriter(format)
  writer.append(record, Texts(values: bytes), to: &out)
  return String(decoding: out, as: UTF8.self)
}

private let record = AccessLogRecord(
  startMilliseconds: 1_787_392_800_123, loggedProtocol: .http11, responseCode: 200, bytesReceived: 0, bytesSent: 375,
  durationMilliseconds: 12, upstreamServiceMilliseconds: 11)

private let texts: [AccessLogText: String] = [
  .method: "GET", .originalPath: "/reviews/0?x=1", .responseCodeDetails: "via_upstream", .userAgent: "curl/8.5.0 (x)",
  .requestID: "0aa1f0c8-2a3b-4c4d-8e5f-001122334455", .authority: "reviews:9080", .upstreamHost: "127.0.0.2:9080",
  .upstreamCluster: "outbound|9080|v1|reviews.default.svc.cluster.local", .upstreamLocalAddress: "127.0.0.1:40000",
  .downstreamLocalAddress: "127.0.0.1:15001", .downstreamRemoteAddress: "127.0.0.1:40002", .routeName: "default",
]

@Test func `a TEXT line is Istio's`() {
  let expected =
    "[2026-08-22T10:00:00.123Z] \"GET /reviews/0?x=1 HTTP/1.1\" 200 - via_upstream - \"-\" 0 375 12 11 \"-\" "
    + "\"curl/8.5.0 (x)\" \"0aa1f0c8-2a3b-4c4d-8e5f-001122334455\" \"reviews:9080\" \"127.0.0.2:9080\" "
    + "outbound|9080|v1|reviews.default.svc.cluster.local 127.0.0.1:40000 127.0.0.1:15001 127.0.0.1:40002 - default\n"
  #expect(line(.text, record, texts) == expected)
}

@Test func `missing values are a dash in TEXT`() {
  let empty = AccessLogRecord(startMilliseconds: 0, loggedProtocol: .tcp, responseCode: 0, flags: [.noRouteFound])
  #expect(
    line(.text, empty, [:])
      == "[1970-01-01T00:00:00.000Z] \"- - -\" 0 NR - - \"-\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\" - - - - - -\n")
}

@Test func `a JSON line has Istio's keys in order, and null for what is missing`() {
  let expected =
    #"{"start_time":"2026-08-22T10:00:00.123Z","route_name":"default","method":"GET","path":"/reviews/0?x=1","#
    + #""protocol":"HTTP/1.1","response_code":200,"response_flags":"-","response_code_details":"via_upstream","#
    + #""connection_termination_details":null,"bytes_received":0,"bytes_sent":375,"duration":12,"upstream_service_time":11,"#
    + #""x_forwarded_for":null,"user_agent":"curl/8.5.0 (x)","request_id":"0aa1f0c8-2a3b-4c4d-8e5f-001122334455","#
    + #""authority":"reviews:9080","upstream_host":"127.0.0.2:9080","#
    + #""upstream_cluster":"outbound|9080|v1|reviews.default.svc.cluster.local","upstream_local_address":"127.0.0.1:40000","#
    + #""downstream_local_address":"127.0.0.1:15001","downstream_remote_address":"127.0.0.1:40002","#
    + #""requested_server_name":null,"upstream_transport_failure_reason":null}"# + "\n"
  #expect(line(.json, record, texts) == expected)
}

private let hostile: [UInt8] = Array("a b\"c\\d\r\n\u{1B}[31m\u{7F}".utf8) + [0, 0xFF, 0xC3]

@Test func `hostile bytes stay on one line and in one field of TEXT`() {
  let written = line(
    .text, record, bytes: [.originalPath: hostile, .userAgent: hostile, .requestedServerName: hostile, .authority: hostile])
  let strict = #"a\x20b\x22c\x5cd\x0d\x0a\x1b[31m\x7f\x00\xff\xc3"#
  let free = #"a b\x22c\x5cd\x0d\x0a\x1b[31m\x7f\x00\xff\xc3"#
  #expect(written.contains("\"- \(strict) HTTP/1.1\""))
  #expect(written.contains("\"\(free)\" \"-\" \"\(strict)\""))
  #expect(written.hasSuffix(" - - - - \(strict) -\n"))
  #expect(written.utf8.count { $0 == 0x0A } == 1)
  #expect(written.utf8.allSatisfy { $0 == 0x0A || $0 >= 0x20 && $0 < 0x7F })
}

@Test func `JSON always parses, and shows hostile bytes`() throws {
  var generator = SeededGenerator(seed: 6)
  for _ in 0..<300 {
    let noise = (0..<64).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    let written = line(.json, record, bytes: [.originalPath: noise, .userAgent: hostile, .requestedServerName: noise])
    #expect(written.utf8.allSatisfy { $0 == 0x0A || $0 >= 0x20 && $0 < 0x7F })
    #expect(written.utf8.count { $0 == 0x0A } == 1)
    struct Line: Decodable {
      var path: String
      var userAgent: String
      enum CodingKeys: String, CodingKey {
        case path
        case userAgent = "user_agent"
      }
    }
    let parsed = try JSONDecoder().decode(Line.self, from: Data(written.utf8))
    #expect(parsed.path.unicodeScalars.map { UInt8($0.value) } == noise)
    #expect(parsed.userAgent.unicodeScalars.map { UInt8($0.value) } == hostile)
  }
}

@Test func `an overlong value is cut`() {
  let long = String(repeating: "x", count: 100_000)
  #expect(line(.text, record, [.originalPath: long]).utf8.count < TelemetryLimits.accessLogFieldBytesMax + 300)
}

@Test func `several lines share one buffer`() {
  var out: [UInt8] = []
  var writer = AccessLogWriter(.text)
  for _ in 0..<3 { writer.append(record, Texts(), to: &out) }
  let lines = String(decoding: out, as: UTF8.self).split(separator: "\n")
  #expect(lines.count == 3 && Set(lines).count == 1)
}

@Test func `a custom format knows Envoy's operators, and a doubled percent sign`() throws {
  let format = try AccessLogFormat(text: "100%% %REQ(X-Custom)% %RESP(Content-Type)% %RESPONSE_CODE% %REQ(:METHOD)%\n")
  let written = line(
    format, record,
    [
      .requestHeader("x-custom"): "v",
      .command(.field(.response, Array("content-type".utf8), else: nil, hasQuery: true)): "a/b", .method: "PUT",
    ])
  #expect(written == "100% v a/b 200 PUT\n")
}

@Test(arguments: [
  "%REQ(Authorization)%", "%REQ(cookie)%", "%RESP(Set-Cookie)%", "%REQ(proxy-authorization)%", "50%", "%%%",
  "%REQ(x-user?authorization)%", "%REQ(cookie):9%", "%REQUEST_HEADER(Cookie)%", "%REQ_WITHOUT_QUERY(cookie)%",
  "%TRAILER(set-cookie)%", #"%COALESCE({"operators": [{"command": "REQ", "param": "cookie"}]})%"#,
])
func `a format with secrets or half an operator is refused`(format: String) {
  #expect(throws: AccessLogFormatError.self) { try AccessLogFormat(text: format) }
}

@Test(arguments: ["%NOPE%", "%REQ()%", "%REQ(a b)%", "%REQ(a):x%", "%RESP(a)b%"])
func `an operator that Envoy refuses is a problem, and a missing value in what is stored`(format: String) throws {
  let compiled = try AccessLogFormat(text: "\(format);")
  #expect(compiled.problems.map(\.written) == [format.replacing("%", with: "")] && compiled.absent.isEmpty)
  #expect(line(compiled, record, [:]) == "-;")
}

@Test(arguments: ["%CEL(request.path)%", "%ENVIRONMENT(HOME)%", "%DYNAMIC_METADATA(a:b):9%", "%VIRTUAL_CLUSTER_NAME%"])
func `an operator that nothing here stands for is a missing value, and is told`(format: String) throws {
  let compiled = try AccessLogFormat(text: "\(format);")
  #expect(compiled.absent == [format.replacing("%", with: "")] && compiled.problems.isEmpty)
  #expect(line(compiled, record, [:]) == "-;")
}

@Test func `numbers are numbers in JSON, and null where there is none`() throws {
  let labels = [
    ("port", "%UPSTREAM_LOCAL_PORT%"), ("tries", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"), ("cipher", "%DOWNSTREAM_TLS_CIPHER%"),
  ]
  let format = try AccessLogFormat(labels: labels.map { .init(key: $0.0, value: .text($0.1)) })
  let written = line(
    format, record, [.command(.address(.upstreamLocal, .port)): "80", .command(.tls(.client, .cipher)): "x y"])
  #expect(written == #"{"port":80,"tries":null,"cipher":"x y"}"# + "\n")
}

@Test func `only a log that asks for what is gone has it kept`() throws {
  #expect(!AccessLogFormat.text.asksForPast && !AccessLogFormat.json.asksForPast)
  for format in [
    "%RESP(x)%", "%RESPONSE_DURATION%", "%UPSTREAM_TLS_VERSION%",
    #"%COALESCE({"operators": [{"command": "RESP", "param": "x"}]})%"#,
  ] {
    #expect(try AccessLogFormat(text: format).asksForPast, "\(format)")
  }
  #expect(try !AccessLogFormat(text: "%REQ(x)% %START_TIME(%s)% %DOWNSTREAM_PEER_SUBJECT% %DURATION%").asksForPast)
}

@Test func `an operator may name a second field and a length`() throws {
  let format = try AccessLogFormat(text: "%REQ(X-User?User-Agent)% %REQ(X-User?User-Agent):4% %REQ(:PATH):3% %REQ(A?B)%\n")
  var texts = texts
  texts[.command(.field(.request, Array(":path".utf8), else: nil, hasQuery: true))] = "/rewritten"
  #expect(line(format, record, texts) == "curl/8.5.0 (x) curl /re -\n")
  let user = line(format, record, [.requestHeader("x-user"): "jason", .userAgent: "curl"])
  #expect(user.hasPrefix("jason jaso "))
}

@Test func `labels of one's own are one object a line, and each value keeps its type`() throws {
  let labels: [AccessLogLabel.Entry] = [
    .init(key: "code", value: .text("%RESPONSE_CODE%")), .init(key: "who", value: .text("%REQ(X-User)%")),
    .init(key: "line", value: .text("%REQ(:METHOD)% \"%REQ(X-Envoy-Original-Path?:PATH)%\" %REQ(X-User)%")),
    .init(key: "a \"key\"", value: .object([.init(key: "list", value: .list([.constant("1"), .text("x"), .list([])]))])),
    .init(key: "none", value: .object([])),
  ]
  let expected =
    #"{"code":200,"who":null,"line":"GET \u0022/reviews/0?x=1\u0022 -","a \u0022key\u0022":{"list":[1,"x",[]]},"none":{}}"#
    + "\n"
  #expect(line(try AccessLogFormat(labels: labels), record, texts) == expected)
  #expect(throws: AccessLogFormatError.self) {
    try AccessLogFormat(labels: [.init(key: "secret", value: .object([.init(key: "x", value: .text("%REQ(Cookie)%"))]))])
  }
}

/// Envoy's `omit_empty_values`.
@Test func `missing values can be left out, with their keys`() throws {
  var format = try AccessLogFormat(text: "[%REQ(X-User)%] %RESPONSE_CODE% %REQ(:METHOD)%\n")
  format.omitsMissing = true
  #expect(line(format, record, texts) == "[] 200 GET\n")
  func labels(_ list: [(String, AccessLogLabel)]) -> [AccessLogLabel.Entry] { list.map { .init(key: $0.0, value: $0.1) } }
  let (missing, code) = (AccessLogLabel.text("%REQ(X-User)%"), AccessLogLabel.text("%RESPONSE_CODE%"))
  let cases: [([(String, AccessLogLabel)], String)] = [
    ([("a", missing), ("b", code)], #"{"b":200}"#), ([("a", code), ("b", missing)], #"{"a":200}"#),
    ([("a", missing), ("b", missing)], "{}"), ([("a", missing), ("b", missing), ("c", code)], #"{"c":200}"#),
    ([("a", .object(labels([("b", missing), ("c", code)]))), ("d", missing)], #"{"a":{"c":200}}"#),
    ([("a", .object(labels([("b", missing)]))), ("c", code)], #"{"a":{},"c":200}"#),
    ([("a", .list([missing, code])), ("b", .text("x%REQ(X-User)%"))], #"{"a":[null,200],"b":"x"}"#),
    ([("a", .constant("null")), ("b", .object([]))], #"{"a":null,"b":{}}"#),
  ]
  for (list, expected) in cases {
    var format = try AccessLogFormat(labels: labels(list))
    format.omitsMissing = true
    #expect(line(format, record, texts) == expected + "\n")
  }
  var json = AccessLogFormat.json
  json.omitsMissing = true
  #expect(!line(json, record, texts).contains("null") && line(.json, record, texts).contains("null"))
}

@Test(
  arguments: [
    (0, "1970-01-01T00:00:00.000Z"), (951_782_400_000, "2000-02-29T00:00:00.000Z"),
    (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
    (4_107_542_400_000, "2100-03-01T00:00:00.000Z"), (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    (UInt64.max, "9999-12-31T23:59:59.999Z"),
  ] as [(UInt64, String)])
func `times are UTC with milliseconds`(milliseconds: UInt64, expected: String) {
  var out: [UInt8] = []
  UTCTime.append(milliseconds: milliseconds, to: &out)
  #expect(String(decoding: out, as: UTF8.self) == expected)
}
