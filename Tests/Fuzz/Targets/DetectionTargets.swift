import HTTPCodec
import Primitives

/// Any bytes as the beginning of a TLS connection. What is complete stays the same with more bytes behind it.
func fuzzClientHello(_ bytes: [UInt8]) {
  let outcome = ClientHello.read(bytes.span)
  switch outcome {
  case .needMore: break
  case .complete: promise(ClientHello.read((bytes + [0x16, 0x03]).span) == outcome, "bytes behind a hello change nothing")
  case .notTLS, .malformed:
    switch ClientHello.read((bytes + [0]).span) {
    case .notTLS, .malformed: break
    case .needMore, .complete: promise(false, "what is wrong stays wrong")
    }
  }
  _ = ProtocolPeek(bytes.span)
}

/// Any bytes as a PROXY protocol header. A header that was read can be written and read again.
func fuzzProxyProtocol(_ bytes: [UInt8]) {
  guard case .complete(let header, let count) = ProxyProtocol.read(bytes.span) else { return }
  promise(count > 0 && count <= bytes.count, "a header ends within the bytes")
  promise(
    ProxyProtocol.read(bytes.span.extracting(0..<count)) == .complete(header, count: count), "what follows does not matter")
  for length in 0..<count {
    promise(ProxyProtocol.read(bytes.span.extracting(0..<length)) == .needMore, "a part of a header needs more")
  }
  for version in [ProxyProtocol.Version.v1, .v2] {
    var output: [UInt8] = []
    header.write(version, into: &output)
    promise(
      ProxyProtocol.read(output.span) == .complete(header, count: output.count), "a header that is written can be read")
  }
}
