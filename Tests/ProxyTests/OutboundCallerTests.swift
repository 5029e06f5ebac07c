import Testing
import Transport

@testable import Proxy

/// An outbound port lends its workload's identity, so only programs of the same host may use it.
@Suite struct OutboundCallerTests {
  @Test(arguments: [
    ("127.0.0.1:5000", "127.0.0.2:15100", true), ("192.0.2.7:5000", "192.0.2.7:15100", true),
    ("192.0.2.8:5000", "192.0.2.7:15100", false), ("203.0.113.1:5000", "127.0.0.1:15100", false),
    ("[::1]:5000", "[2001:db8::1]:15100", true), ("[2001:db8::2]:5000", "[2001:db8::1]:15100", false),
  ])
  func `only the host itself may call through an outbound port`(peer: String, local: String, isAllowed: Bool) throws {
    #expect(
      Worker.isOfThisHost(try SocketAddress(parsing: peer), connectedTo: try SocketAddress(parsing: local)) == isAllowed)
  }
}
