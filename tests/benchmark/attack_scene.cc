#include <string>
#include <vector>

#include "absl/strings/str_format.h"

#include "tests/benchmark/attack.h"
#include "tests/benchmark/honest_client.h"
#include "tests/benchmark/scenes.h"

namespace tenure::testing {
namespace {

constexpr double kMostSlowdown = 10;
constexpr double kSecondUs = 1e6;

// One daemon, one honest client, and the latencies of that client without an attack.
class Scene {
 public:
  Scene(const Settings& settings, Report& report, const TestDaemon::Options& options,
        const std::string& name)
      : seconds_(settings.seconds), report_(report), name_(name), daemon_(options) {
    honest_.For(std::chrono::seconds(1));
    quiet_ = honest_.For(std::chrono::seconds(seconds_)).calls;
    report_.AddFigure(name_ + ": an honest call, quiet, p50 and p99", FormatBoth(quiet_));
    Attackers spinning("spin", daemon_.socket(), seconds_);
    busy_ = honest_.During([&] { spinning.WaitForEnd(); }).calls;
    report_.AddFigure(name_ + ": beside 2 processes that only spin",
                      FormatBoth(busy_) + ", " + FormatRatios(busy_, quiet_) + " x quiet");
  }

  // `cut`: how long the attackers' connections lasted.
  void Attacked(const std::string& attack, const std::string& cut) {
    Attackers attackers(attack, daemon_.socket(), seconds_);
    Attackers::Cuts cuts;
    const HonestClient::Latencies during = honest_.During([&] { cuts = attackers.WaitForEnd(); });
    attackers.Kill();
    const double back = MicrosecondsUntilServed(daemon_);
    JudgeLatency(attack, during);
    if (!cut.empty()) {
      report_.AddPromise(absl::StrFormat("%s: %s, p50 and longest of %d", attack, cut, cuts.count),
                         FormatTime(cuts.median_us) + ", " + FormatTime(cuts.longest_us), "<= 1 s",
                         cuts.count > 0 && cuts.longest_us <= kSecondUs);
    }
    report_.AddPromise(attack + ": afterwards a new client is served within",
                       back < 0 ? "never" : FormatTime(back), "<= 1 s",
                       back >= 0 && back <= kSecondUs);
  }

 private:
  static std::string FormatBoth(const Samples& samples) {
    return FormatTime(samples.Quantile(0.5)) + ", " + FormatTime(samples.Quantile(0.99));
  }
  static std::string FormatRatios(const Samples& these, const Samples& those) {
    return absl::StrFormat("%.2f, %.2f", these.Quantile(0.5) / those.Quantile(0.5),
                           these.Quantile(0.99) / those.Quantile(0.99));
  }

  bool IsBorne(const Samples& calls, double share) const {
    return calls.Quantile(share) <= kMostSlowdown * quiet_.Quantile(share);
  }

  void JudgeLatency(const std::string& attack, const HonestClient::Latencies& during) {
    const Samples& calls = during.calls;
    report_.AddPromise(attack + ": an honest call, p50 and p99",
                       absl::StrFormat("%s, %s x quiet, %s x beside spinning", FormatBoth(calls),
                                       FormatRatios(calls, quiet_), FormatRatios(calls, busy_)),
                       "<= 10 x quiet",
                       calls.size() > 0 && IsBorne(calls, 0.5) && IsBorne(calls, 0.99));
    report_.AddPromise(attack + ": honest calls that failed",
                       absl::StrFormat("%d of %d", during.failed, during.failed + calls.size()),
                       "0", during.failed == 0);
  }

  const int seconds_;
  Report& report_;
  const std::string name_;
  TestDaemon daemon_;
  HonestClient honest_{daemon_};
  Samples quiet_;
  Samples busy_;
};

}  // namespace

void MeasureAttacks(const Settings& settings, Report& report) {
  {
    // The crowd sends no keep-alives; the long lease time keeps its sessions active.
    Scene scene(settings, report, {.flags = {"--lease-ttl", "1h"}}, "attacks");
    for (const char* attack : {"reset", "header", "unread"}) {
      scene.Attacked(attack, "cut after its first byte");
    }
    scene.Attacked("idle", "");
  }
  TestDaemon::Options few;
  few.flags = {"--lease-ttl", "1h"};
  few.wrapper = {"prlimit", "--nofile=200:200"};
  Scene(settings, report, few, "with 200 descriptors")
      .Attacked("descriptors", "turned away after its first byte");
}

}  // namespace tenure::testing
