import MeshConfig
import Telemetry
import Testing
import Traffic

/// Envoy's command operators in header values (Istio, VirtualService `headers`).
@Suite struct HeaderValueTests {
  private struct Values: CommandValues {
    func append(_ command: CommandOperator, to out: inout [UInt8]) {
      switch command {
      case .field(.request, let name, let other, _):
        if name == bytes("user-agent") || other == bytes("user-agent") { out += bytes("curl/8") }
        if name == bytes("long") { out += [UInt8](repeating: 0x61, count: 5000) }
      case .time(.started, let pattern, false): TimePattern.append(1_767_225_599_123, pattern, in: nil, to: &out)
      case .address(.client, .address(nil)): out += bytes("10.1.2.3")
      case .protocol: out += bytes("HTTP/2")
      default: break
      }
    }
  }

  private func value(_ written: String) -> String? {
    guard let format = CommandFormat(written) else { return nil }
    let field = HeaderOperations.Field(name: bytes("x"), value: [], format: format)
    return HeaderOperations(remove: [], set: [field], add: []).filled(by: Values()).set.first.map {
      String(decoding: $0.value, as: UTF8.self)
    }
  }

  @Test(arguments: [
    ("plain", "plain"), ("100%%", "100%"), ("%PROTOCOL%", "HTTP/2"), ("a%PROTOCOL%b", "aHTTP/2b"),
    ("%REQ(User-Agent)%", "curl/8"), ("%REQ(missing?User-Agent)%", "curl/8"), ("%REQ(User-Agent):4%", "curl"),
    ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.1.2.3"), ("%START_TIME%", "2025-12-31T23:59:59.123Z"),
    ("%START_TIME(%Y/%m/%d %T.%3f %s)%", "2025/12/31 23:59:59.123 1767225599"), ("%START_TIME(%F)%", "2025-12-31"),
    ("%%%PROTOCOL%%%", "%HTTP/2%"), ("%REQ(User-Agent):0%x", "x"), ("%PATH%x", "x"),
    (#"%COALESCE({"operators": ["PATH", {"command": "REQ", "param": "user-agent", "max_length": 4}, "PROTOCOL"]}):3%"#, "cur"),
  ])
  func `operators are filled in`(written: String, expected: String) { #expect(value(written) == expected) }

  @Test func `a value that comes out empty leaves its field alone`() {
    #expect(value("%REQ(missing)%") == nil)
    #expect(value("%UPSTREAM_HOST%") == nil)
  }

  @Test(arguments: ["%", "50%", "%REQ(x", "a%b%c%"]) func `a percent sign that stands alone is refused`(written: String) {
    #expect(CommandFormat(written) == nil)
  }

  @Test(arguments: ["%NOBODY%", "%REQ(a b)%", "%REQ(x):many%", "%START_TIME(%Q)%"])
  func `what is not known is named, and what is stored of it stands for nothing`(written: String) {
    #expect(CommandFormat(written)?.problems.map(\.written) == [String(written.dropFirst().dropLast())])
    #expect(value("a\(written)b") == "ab" && value(written) == nil)
  }

  @Test func `a value of more bytes than a field may have is none`() {
    #expect(value("%REQ(long)%")?.utf8.count == 5000)
    #expect(value("%REQ(long)%%REQ(long)%") == nil)
  }

  @Test func `dates are those of the Gregorian calendar`() {
    for (milliseconds, expected) in [
      (0, "1970-01-01T00:00:00.000Z"), (951_782_400_000, "2000-02-29T00:00:00.000Z"),
      (4_107_542_399_999, "2100-02-28T23:59:59.999Z"), (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ] as [(UInt64, String)] {
      var out: [UInt8] = []
      TimePattern.append(milliseconds, nil, in: nil, to: &out)
      #expect(String(decoding: out, as: UTF8.self) == expected)
    }
  }
}

@Suite struct ForwardedAddressTests {
  @Test(
    arguments: [
      ("1.1.1.1, 2.2.2.2, 3.3.3.3", 1, "2.2.2.2"), ("1.1.1.1, 2.2.2.2, 3.3.3.3", 2, "1.1.1.1"),
      ("1.1.1.1, 2.2.2.2, 3.3.3.3", 3, nil), ("3.3.3.3", 1, nil), ("a,,b", 1, nil),
    ] as [(String, Int, String?)])
  func `so many entries from the right are the trusted proxies'`(field: String, hops: Int, expected: String?) {
    #expect(ForwardedAddress.client(bytes(field), trusting: hops) == expected)
  }
}
