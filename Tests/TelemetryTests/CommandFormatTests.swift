import Primitives
import Telemetry
import Testing

/// Envoy's command operators, wherever configuration writes them.
@Suite struct CommandFormatTests {
  private struct Echo: CommandValues {
    func append(_ command: CommandOperator, to out: inout [UInt8]) {
      if case .field(_, let name, _, _) = command { out += name }
    }
  }

  private func text(_ written: String) -> String? {
    guard let format = CommandFormat(written) else { return nil }
    var out: [UInt8] = []
    for part in format.parts {
      switch part {
      case .text(let text): out += text
      case .command(let command, let max): Echo().append(command, max: max, to: &out)
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  private func command(_ written: String) -> CommandOperator? {
    guard case .command(let command, _)? = CommandFormat("%\(written)%")?.parts.first else { return nil }
    return command
  }

  /// "Substitution Formatter", "Supported commands".
  @Test(arguments: [
    "START_TIME", "START_TIME(%Y/%m/%dT%H:%M:%S%z %s)", "START_TIME(%s.%9f)", "START_TIME_LOCAL", "EMIT_TIME",
    "EMIT_TIME_LOCAL",
    "REQUEST_HEADERS_BYTES", "BYTES_RECEIVED", "BYTES_RETRANSMITTED", "PACKETS_RETRANSMITTED", "PROTOCOL", "UPSTREAM_PROTOCOL",
    "RESPONSE_CODE", "RESPONSE_CODE_DETAILS", "RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)", "CONNECTION_TERMINATION_DETAILS",
    "RESPONSE_HEADERS_BYTES", "RESPONSE_TRAILERS_BYTES", "BYTES_SENT", "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "DOWNSTREAM_WIRE_BYTES_SENT", "DOWNSTREAM_WIRE_BYTES_RECEIVED", "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED", "UPSTREAM_WIRE_BYTES_SENT", "UPSTREAM_WIRE_BYTES_RECEIVED", "DURATION",
    "COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)", "REQUEST_DURATION", "REQUEST_TX_DURATION", "RESPONSE_DURATION",
    "RESPONSE_TX_DURATION", "UPSTREAM_CONNECTION_POOL_READY_DURATION", "RESPONSE_FLAGS", "RESPONSE_FLAGS_LONG", "ROUTE_NAME",
    "UPSTREAM_HOST", "UPSTREAM_HOST_NAME", "UPSTREAM_HOST_NAME_WITHOUT_PORT", "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_LOCAL_ADDRESS", "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(16)", "UPSTREAM_LOCAL_PORT", "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "UPSTREAM_REMOTE_PORT", "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(24)", "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS", "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_LOCAL_PORT", "DOWNSTREAM_DIRECT_LOCAL_PORT", "CONNECTION_ID",
    "STREAM_ID", "GRPC_STATUS", "GRPC_STATUS(SNAKE_STRING)", "GRPC_STATUS_NUMBER", "REQUEST_HEADER(X?Y):9", "REQ(:AUTHORITY)",
    "RESPONSE_HEADER(X)", "RESP(X?Y):9", "RESPONSE_TRAILER(X)", "TRAILER(X)", "REQUESTED_SERVER_NAME",
    "REQUESTED_SERVER_NAME(SNI_FIRST:ORIG)", "DOWNSTREAM_LOCAL_IP_SAN", "DOWNSTREAM_PEER_IP_SAN", "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_PEER_DNS_SAN", "DOWNSTREAM_LOCAL_URI_SAN", "DOWNSTREAM_PEER_URI_SAN", "DOWNSTREAM_LOCAL_EMAIL_SAN",
    "DOWNSTREAM_PEER_EMAIL_SAN", "DOWNSTREAM_LOCAL_SUBJECT", "DOWNSTREAM_PEER_SUBJECT", "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_TLS_SESSION_ID", "DOWNSTREAM_TLS_CIPHER", "DOWNSTREAM_TLS_GROUP", "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_PEER_FINGERPRINT_256", "DOWNSTREAM_PEER_FINGERPRINT_1", "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_CERT", "DOWNSTREAM_PEER_CERT_V_START", "DOWNSTREAM_PEER_CERT_V_END(%F)", "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PEER_ISSUER", "UPSTREAM_TLS_SESSION_ID", "UPSTREAM_TLS_CIPHER", "UPSTREAM_TLS_GROUP", "UPSTREAM_TLS_VERSION",
    "UPSTREAM_SERVER_NAME", "UPSTREAM_PEER_CERT", "UPSTREAM_PEER_CERT_V_START", "UPSTREAM_PEER_CERT_V_END",
    "UPSTREAM_PEER_URI_SAN", "UPSTREAM_PEER_DNS_SAN", "UPSTREAM_PEER_IP_SAN", "UPSTREAM_LOCAL_URI_SAN",
    "UPSTREAM_LOCAL_DNS_SAN",
    "UPSTREAM_LOCAL_IP_SAN", "HOSTNAME", "ACCESS_LOG_TYPE", "UNIQUE_ID", "TRACE_ID", "QUERY_PARAM(X):9",
    "QUERY_PARAMS(DECODED)",
    "PATH", "PATH(NQ)", "PATH(WQ:ORIG):9", "REQ_WITHOUT_QUERY(X?Y):9", #"COALESCE({"operators": ["PATH"]}):9"#,
  ])
  func `an operator of Envoy's is known, and something stands for it`(written: String) {
    #expect(CommandFormat("%\(written)%")?.problems == [] && command(written) != .absent)
  }

  @Test(arguments: [
    "ROUNDTRIP_DURATION", "DOWNSTREAM_HANDSHAKE_DURATION", "VIRTUAL_CLUSTER_NAME", "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_CONNECTION_ID", "DYNAMIC_METADATA(a:b):9", "CLUSTER_METADATA(a)", "UPSTREAM_METADATA(a)", "METADATA(ROUTE:a)",
    "FILTER_STATE(a:PLAIN)", "UPSTREAM_FILTER_STATE(a)", "TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT", "LOCAL_REPLY_BODY",
    "FILTER_CHAIN_NAME", "ENVIRONMENT(X):9", "SPAN_ID", "CUSTOM_FLAGS", "CEL(request.path)", "TYPED_CEL(response.code):9",
    "COMMON_DURATION(US_CX_BEG:US_CX_END)", "COMMON_DURATION(DS_RX_BEG:my_point)",
  ])
  func `what nothing here stands for is accepted and named`(written: String) {
    let format = CommandFormat("a%\(written)%b")
    #expect(format?.problems == [] && format?.absent == [written])
    #expect(text("a%\(written)%b") == "ab")
  }

  @Test(
    arguments: [
      ("NOPE", "is no operator that is known", nil), ("PROTOCL", "no operator", "did you mean 'PROTOCOL'?"),
      ("protocol", "no operator", "did you mean 'PROTOCOL'?"), (" of ", "is no operator", "write %% for a percent sign"),
      ("PROTOCOL(x)", "neither an argument nor a length", "write '%PROTOCOL%'"),
      ("PROTOCOL:3", "neither an argument nor a length", "write '%PROTOCOL%'"),
      ("START_TIME(%s):3", "takes no length", nil), ("START_TIME(%Q)", "says no time", "strftime"),
      ("START_TIME(%n)", "says no time", "strftime"), ("START_TIME(%)", "says no time", "strftime"),
      ("REQ", "needs an argument", "REQ(…)"), ("REQ()", "needs an argument", nil),
      ("REQ(a b)", "'a b', which is no field name", nil),
      ("REQ(a?b?c)", "more than one other field", nil), ("REQ(a?)", "no field name", nil),
      ("REQ(x):-1", "a number of bytes", nil),
      ("REQ(x):", "a number of bytes", nil), ("REQ(x):99999999999999999999999", "a number of bytes", nil),
      ("REQ(x)y", "a number of bytes", nil), ("PATH(XQ)", "not one of WQ, NQ", "did you mean"),
      ("PATH(NQ:ORIG:x)", "more than two", nil),
      ("GRPC_STATUS(camel_string)", "not one of CAMEL_STRING", "did you mean 'CAMEL_STRING'?"),
      ("REQUESTED_SERVER_NAME(SNI)", "not one of SNI_ONLY", nil),
      ("COMMON_DURATION(DS_RX_BEG)", "two points in time", "DS_RX_BEG"),
      ("COMMON_DURATION(DS_RX_BEG:DS_TX_EN)", "no point in time", "did you mean 'DS_TX_END'?"),
      ("COMMON_DURATION(DS_RX_BEG:DS_TX_END:s)", "not one of ms, us, ns", nil),
      ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(129)", "from 0 to 128", nil), ("COALESCE(PATH)", "an object in JSON", "write"),
      (#"COALESCE({"operators": []})"#, "an object in JSON", nil),
      (#"COALESCE({"operators": ["NOPE"]})"#, "'%NOPE%' is no operator", nil),
      (#"COALESCE({"operators": ["PROTOCL"]})"#, "is no operator", "did you mean 'PROTOCOL'?"),
      (#"COALESCE({"operators": [{"command": "REQ"}]})"#, "needs an argument", nil),
    ] as [(String, String, String?)])
  func `what Envoy refuses is refused, with a reason and a hint`(written: String, reason: String, hint: String?) {
    let problem = CommandFormat("%\(written)%")?.problems.first
    #expect(problem?.description.contains(reason) == true, "\(String(describing: problem))")
    if let hint { #expect(problem?.hint?.contains(hint) == true, "\(String(describing: problem))") }
    #expect(text("a%\(written)%b") == "ab")
  }

  @Test func `the first that has a value counts`() {
    #expect(
      text(#"%COALESCE({"operators": ["PROTOCOL", {"command": "REQ", "param": "x-a"}, {"command":"RESP","param":"y"}]})%"#)
        == "x-a")
    #expect(text(#"%COALESCE({"operators": [{"command": "REQ", "param": "x-long", "max_length": 4}]}):3%"#) == "x-l")
    #expect(text(#"%COALESCE({"operators": [{"command": "REQ", "param": "x\u002Dy"}]})%"#) == "x-y")
  }

  @Test func `text without operators is what it was`() {
    var generator = SeededGenerator(seed: 31)
    for _ in 0..<2000 {
      let bytes = (0..<generator.next() % 40).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
      let written = String(decoding: bytes, as: UTF8.self)
      #expect(text(written.replacing("%", with: "%%")) == written)
    }
  }

  @Test func `nothing that is written stops the reader`() {
    var generator = SeededGenerator(seed: 32)
    let words = [
      "%", "%%", "(", ")", ":", "?", "{", "}", "[", "]", "\"", "\\u", "\\", ",", "REQ", "START_TIME", "COALESCE",
      "COMMON_DURATION",
      "PATH", "QUERY_PARAM", "operators", "command", "9", "-1", "%E3S", "%Ez", "ä", "\u{0}", "DS_RX_BEG", "NQ", " ",
    ]
    for _ in 0..<20_000 {
      var written = ""
      for _ in 0..<generator.next() % 12 { written += words[Int(generator.next() % UInt64(words.count))] }
      guard let format = CommandFormat(written) else { continue }
      #expect(!format.parts.isEmpty)
      _ = try? AccessLogFormat(text: written)
    }
  }

  // MARK: Time

  /// GNU `date` in the C locale says the same.
  @Test(
    arguments: [
      (1_767_225_599_123, "%a %A %b %B %C %e %D", "Wed Wednesday Dec December 20 31 12/31/25"),
      (1_767_225_599_123, "%F %T %R %r %p %I %l %k", "2025-12-31 23:59:59 23:59 11:59:59 PM PM 11 11 23"),
      (1_767_225_599_123, "%j %u %w %U %W %V %G %g %y", "365 3 3 52 52 01 2026 26 25"),
      (1_451_606_400_000, "%F %j %U %W %V %G", "2016-01-01 001 00 00 53 2015"),
      (1_356_912_000_000, "%F %V %G %A", "2012-12-31 01 2013 Monday"),
      (1_230_768_000_000, "%F %V %G %U %W", "2009-01-01 01 2009 00 00"),
      (0, "%c|%x|%X|%h|%P|%Z|%z|%Ez|%s", "Thu Jan  1 00:00:00 1970|01/01/70|00:00:00|Jan|am|UTC|+0000|+00:00|0"),
      (
        1_767_225_599_123, "%f %1f %3f %6f %E3S %E*S %E0S %E5f %E4Y %Od%%",
        "123000000 1 123 123000 59.123 59.123 59 12300 2025 31%"
      ),
    ] as [(UInt64, String, String)])
  func `directives say what strftime says`(milliseconds: UInt64, pattern: String, expected: String) throws {
    var out: [UInt8] = []
    try #require(TimePattern(pattern)).append(milliseconds, to: &out)
    #expect(String(decoding: out, as: UTF8.self) == expected)
  }

  @Test func `a place's own time has its offset`() throws {
    let zone = TimeZoneOffset(seconds: -12_600, name: "NST")
    var out: [UInt8] = []
    TimePattern.append(1_767_225_599_123, nil, in: zone, to: &out)
    try #require(TimePattern("|%T %Z %Ez|")).append(1_767_225_599_123, in: zone, to: &out)
    TimePattern.append(.max, TimePattern("%Y"), in: TimeZoneOffset(seconds: .min, name: ""), to: &out)
    #expect(String(decoding: out, as: UTF8.self) == "2025-12-31T20:29:59.123-0330|20:29:59 NST -03:30|9999")
  }

  @Test func `a gRPC status has three spellings`() {
    #expect(GRPCStatusForm.allCases.map { $0.text(of: 3) } == ["InvalidArgument", "INVALID_ARGUMENT", "3"])
    #expect(GRPCStatusForm.allCases.map { $0.text(of: 99) } == ["99", "99", "99"])
  }
}
