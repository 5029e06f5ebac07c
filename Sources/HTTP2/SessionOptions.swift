import CNGHTTP2
import Glibc

/// The library's options. Protections that only some builds have are found by symbol: distributions back-port them without
/// changing the version.
struct SessionOptions {
  private(set) var pointer: OpaquePointer?

  init(_ limits: HTTP2Limits) {
    guard nghttp2_option_new(&pointer) == 0 else { return }
    nghttp2_option_set_no_auto_window_update(pointer, 1)
    nghttp2_option_set_no_closed_streams(pointer, 1)
    nghttp2_option_set_max_outbound_ack(pointer, limits.acknowledgements)
    nghttp2_option_set_max_settings(pointer, limits.settings)
    nghttp2_option_set_max_deflate_dynamic_table_size(pointer, Int(limits.tableBytes))
    Optionals.shared.setContinuations?(pointer, limits.continuations)
    // Off: the library's own budget counts by a clock of its own, and not the resets that a peer provokes. Ours does.
    Optionals.shared.setResets?(pointer, UInt64(UInt32.max), UInt64(UInt32.max))
  }

  func delete() { nghttp2_option_del(pointer) }

  private struct Optionals: Sendable {
    typealias SetContinuations = @convention(c) @Sendable (OpaquePointer?, Int) -> Void
    typealias SetResets = @convention(c) @Sendable (OpaquePointer?, UInt64, UInt64) -> Void
    static let shared = Optionals()
    let setContinuations: SetContinuations?
    let setResets: SetResets?

    private init() {
      setContinuations = dlsym(nil, "nghttp2_option_set_max_continuations").map {
        unsafeBitCast($0, to: SetContinuations.self)
      }
      setResets = dlsym(nil, "nghttp2_option_set_stream_reset_rate_limit").map {
        unsafeBitCast($0, to: SetResets.self)
      }
    }
  }
}
