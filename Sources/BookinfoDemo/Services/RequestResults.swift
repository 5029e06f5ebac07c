import Synchronization

/// The counter `request_result_total` of productpage: the final status of each call to a backend.
final class RequestResults: Sendable {
  private struct Key: Hashable {
    var app: String
    var status: Int
  }

  private let counts = Mutex<[Key: UInt64]>([:])

  func count(_ app: String, status: Int) {
    counts.withLock { counts in
      let key = Key(app: app, status: status)
      guard counts[key] != nil || counts.count < Limits.countedCodes else { return }
      counts[key, default: 0] &+= 1
    }
  }

  /// Prometheus text format 0.0.4, in order of app and code.
  var prometheusText: String {
    let sorted = counts.withLock { Array($0) }.sorted { ($0.key.app, $0.key.status) < ($1.key.app, $1.key.status) }
    var text = "# HELP request_result_total Results of requests\n# TYPE request_result_total counter\n"
    for (key, count) in sorted {
      text += "request_result_total{destination_app=\"\(key.app)\",response_code=\"\(key.status)\"} \(count).0\n"
    }
    return text
  }
}
