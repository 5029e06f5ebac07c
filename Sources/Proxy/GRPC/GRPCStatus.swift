import HTTPCodec
import Primitives

/// gRPC's canonical status codes where HTTP meets them.
enum GRPCStatus {
  static let deadlineExceeded: UInt8 = 4

  /// What a status says in HTTP's terms, by which endpoints are judged (Envoy, "grpc_to_http").
  static func http(_ status: UInt8) -> Int {
    switch status {
    case 0: 200
    case 1: 499
    case 3, 9, 11: 400
    case 4: 504
    case 5: 404
    case 6, 10: 409
    case 7: 403
    case 8: 429
    case 12: 501
    case 14: 503
    case 16: 401
    default: 500
    }
  }

  /// The status in a head of a trailers-only answer, or in trailers.
  static func read(_ headers: HeaderBlock) -> UInt8? {
    guard let value = headers.value(.grpcStatus) else { return nil }
    return parseDecimal(headers.copy(value), max: 255).map { UInt8(clamping: $0) }
  }
}
