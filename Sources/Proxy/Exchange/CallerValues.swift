import Glibc
import MeshConfig
import Primitives
import Telemetry
import Transport

// What operators say of a client's connection: the same for HTTP and for opaque connections.
extension Caller {
  /// The name that the client asked for by TLS.
  func appendServerName(to out: inout [UInt8]) {
    if let peer { out += peer.serverName } else if let name = tls?.serverName { out += name.utf8 }
  }

  /// False for an operator that says nothing of a connection.
  func append(_ command: CommandOperator, draws: inout SeededGenerator, to out: inout [UInt8]) -> Bool {
    switch command {
    case .address(.clientDirect, let part), .address(.client, let part): address.append(part, to: &out)
    case .address(.clientLocal, let part): localAddress.append(part, to: &out)
    case .tls(.client, .serverName): appendServerName(to: &out)
    case .tls(.client, let fact): tls?.append(fact, to: &out)
    case .certificate(.client, .peer, .uris) where isInner || tls == nil:
      if let peer { out += peer.identity.description.utf8 }
    case .certificate(.client, let owner, let fact): tls?.append(owner, fact, to: &out)
    case .connectionID:
      let number = connectionNumber ?? draws.next() >> 1
      connectionNumber = number
      out += String(number).utf8
    default: return false
    }
    return true
  }
}

extension SocketAddress {
  func append(_ part: CommandOperator.AddressPart, to out: inout [UInt8]) {
    switch part {
    case .whole: out += description.utf8
    case .port: if let port { out += String(port).utf8 }
    case .address(let bits):
      guard let ip else { return out += description.utf8 }
      out += (bits.map { ip.unmapped.network(bits: $0) } ?? ip.description).utf8
    }
  }

  /// As above, of an address that is only known as text; a text that is none has no parts.
  static func append(_ text: String, _ part: CommandOperator.AddressPart, to out: inout [UInt8]) {
    if part == .whole {
      out += text.utf8
    } else if let address = try? SocketAddress(parsing: text) {
      address.append(part, to: &out)
    }
  }
}

extension TLSSession {
  func append(_ fact: CommandOperator.TLSFact, to out: inout [UInt8]) {
    switch fact {
    case .version: out += version.utf8
    case .cipher: out += cipher.utf8
    case .group: out += group.utf8
    case .sessionID: out += hexString(sessionID).utf8
    case .serverName: out += (askedName ?? "").utf8
    }
  }

  func append(_ owner: CommandOperator.CertificateOwner, _ fact: CertificateFact, to out: inout [UInt8]) {
    let chain = owner == .peer ? provenChain : ownCertificate.map { [$0] } ?? []
    guard let leaf = chain.first else { return }
    func join(_ texts: [String]) { out += texts.joined(separator: ",").utf8 }
    switch fact {
    case .uris: Self.join(leaf.uris, to: &out)
    case .dnsNames: Self.join(leaf.dnsNames, to: &out)
    case .emails: Self.join(leaf.emails, to: &out)
    case .addresses: join(leaf.addresses.map(\.description))
    case .subject: out += leaf.subject.utf8
    case .issuer: out += leaf.issuer.utf8
    case .serial: out += hexString(leaf.serial).utf8
    case .sha256: out += hexString(leaf.fingerprint).utf8
    case .sha1: out += hexString(leaf.fingerprintSHA1).utf8
    case .chainSerials: join(chain.map { hexString($0.serial) })
    case .chainSHA256: join(chain.map { hexString($0.fingerprint) })
    case .chainSHA1: join(chain.map { hexString($0.fingerprintSHA1) })
    case .pem: for byte in leaf.pem { Self.appendEscaped(byte, to: &out) }
    case .notBefore(let pattern): Self.append(leaf.notBefore, pattern, to: &out)
    case .notAfter(let pattern): Self.append(leaf.notAfter, pattern, to: &out)
    }
  }

  private static func join(_ names: [[UInt8]], to out: inout [UInt8]) { out += names.joined(separator: [0x2C]) }

  private static func append(_ seconds: Int64, _ pattern: TimePattern?, to out: inout [UInt8]) {
    let milliseconds = UInt64(max(0, seconds)).multipliedReportingOverflow(by: 1000)
    TimePattern.append(milliseconds.overflow ? .max : milliseconds.partialValue, pattern, in: nil, to: &out)
  }

  /// The bytes of PEM that have a meaning in a URL or a header, as Envoy escapes them.
  private static func appendEscaped(_ byte: UInt8, to out: inout [UInt8]) {
    switch byte {
    case 0x0A, 0x20, 0x2B, 0x2F, 0x3D: out += "%\(hexString([byte]).uppercased())".utf8
    default: out.append(byte)
    }
  }
}

/// The zone that this node's clocks show.
func localZone(at millisecondsSince1970: UInt64) -> TimeZoneOffset {
  var seconds = time_t(clamping: millisecondsSince1970 / 1000)
  var broken = tm()
  guard unsafe localtime_r(&seconds, &broken) != nil else { return .utc }
  return TimeZoneOffset(seconds: broken.tm_gmtoff, name: unsafe broken.tm_zone.map { unsafe String(cString: $0) } ?? "")
}

extension CommandOperator.Moment {
  /// - Parameter started: milliseconds since 1970-01-01 UTC.
  func append(
    _ pattern: TimePattern?, isLocal: Bool, started: @autoclosure () -> UInt64, to out: inout [UInt8]
  ) {
    let moment = self == .started ? started() : wallClockMilliseconds()
    TimePattern.append(moment, pattern, in: isLocal ? localZone(at: moment) : nil, to: &out)
  }
}
