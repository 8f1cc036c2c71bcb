// Steps through the themes.
import type { ReactNode } from "react";
import { MoonIcon, SunIcon, SystemIcon } from "./icons";
import { useTheme } from "./theme";

export function ThemeButton(): ReactNode {
  const [theme, next] = useTheme();
  const words = { system: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" }[theme];
  return (
    <button type="button" className="icon-button" onClick={next} aria-label={words} title={words}>
      {theme === "system" ? <SystemIcon /> : theme === "light" ? <SunIcon /> : <MoonIcon />}
    </button>
  );
}
