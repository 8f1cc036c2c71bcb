// The page's icons: strokes in the colour of the text around them, hidden from screen readers.
import type { ReactNode } from "react";

function Icon({ children, size = 18 }: { children: ReactNode; size?: number }): ReactNode {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      {children}
    </svg>
  );
}

export const PlusIcon = () => (
  <Icon>
    <path d="M12 5v14M5 12h14" />
  </Icon>
);
export const MenuIcon = () => (
  <Icon size={20}>
    <path d="M4 7h16M4 12h16M4 17h10" />
  </Icon>
);
export const CloseIcon = () => (
  <Icon>
    <path d="M6 6l12 12M18 6L6 18" />
  </Icon>
);
export const PencilIcon = () => (
  <Icon size={16}>
    <path d="M4 20l1-4L16.5 4.5a2.1 2.1 0 0 1 3 3L8 19l-4 1ZM14.5 6.5l3 3" />
  </Icon>
);
export const TrashIcon = () => (
  <Icon size={16}>
    <path d="M4 7h16M9 7V4.5h6V7M6.5 7l1 13h9l1-13M10 11v5.5M14 11v5.5" />
  </Icon>
);
export const SendIcon = () => (
  <Icon>
    <path d="M12 19V5M6 11l6-6 6 6" />
  </Icon>
);
export const StopIcon = () => (
  <Icon>
    <rect x="7" y="7" width="10" height="10" rx="2" fill="currentColor" />
  </Icon>
);
export const DownIcon = () => (
  <Icon>
    <path d="M12 5v14M6 13l6 6 6-6" />
  </Icon>
);
export const CopyIcon = () => (
  <Icon size={15}>
    <rect x="9" y="9" width="11" height="11" rx="2.5" />
    <path d="M5.5 15A1.5 1.5 0 0 1 4 13.500V6a2 2 0 0 1 2-2h7.500A1.5 1.5 0 0 1 15 5.5" />
  </Icon>
);
export const CheckIcon = () => (
  <Icon size={15}>
    <path d="M5 12.500l4.5 4.500L19 7.5" />
  </Icon>
);
export const RetryIcon = () => (
  <Icon size={15}>
    <path d="M19.5 12a7.5 7.5 0 1 1-2.300-5.400M19.5 3.500v4h-4" />
  </Icon>
);
export const CrossIcon = () => (
  <Icon size={15}>
    <path d="M7 7l10 10M17 7 7 17" />
  </Icon>
);
export const ContinueIcon = () => (
  <Icon size={15}>
    <path d="M4 12h13M12 6.500l6 5.500-6 5.500" />
  </Icon>
);
export const BackIcon = () => (
  <Icon size={15}>
    <path d="M14.500 6 8.500 12l6 6" />
  </Icon>
);
export const ForthIcon = () => (
  <Icon size={15}>
    <path d="M9.500 6l6 6-6 6" />
  </Icon>
);
export const SearchIcon = () => (
  <Icon size={16}>
    <circle cx="11" cy="11" r="6.5" />
    <path d="M16 16l4.500 4.500" />
  </Icon>
);
export const AlertIcon = () => (
  <Icon>
    <path d="M12 8v5M12 16.500v.1M10.300 4.200 3 17a2 2 0 0 0 1.700 3h14.600a2 2 0 0 0 1.700-3L13.700 4.200a2 2 0 0 0-3.400 0Z" />
  </Icon>
);
export const ImageIcon = () => (
  <Icon size={15}>
    <rect x="3.5" y="4.5" width="17" height="15" rx="2.5" />
    <path d="M4 16l4.5-4.5 4 4 2.5-2.5 5 5M15.5 9v.1" />
  </Icon>
);
export const SignOutIcon = () => (
  <Icon size={17}>
    <path d="M14 5H7a2 2 0 0 0-2 2v10a2 2 0 0 0 2 2h7M11 12h9M16.5 8.5 20 12l-3.5 3.5" />
  </Icon>
);
export const SunIcon = () => (
  <Icon size={17}>
    <circle cx="12" cy="12" r="4" />
    <path d="M12 3v1.500M12 19.500V21M3 12h1.500M19.5 12H21M5.600 5.600l1.100 1.100M17.300 17.300l1.100 1.100M5.600 18.400l1.100-1.100M17.300 6.700l1.100-1.100" />
  </Icon>
);
export const MoonIcon = () => (
  <Icon size={17}>
    <path d="M20 14.500A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.500Z" />
  </Icon>
);
export const SystemIcon = () => (
  <Icon size={17}>
    <circle cx="12" cy="12" r="8" />
    <path d="M12 4v16a8 8 0 0 0 0-16Z" fill="currentColor" />
  </Icon>
);

export function Mark({ size = 28 }: { size?: number }): ReactNode {
  return (
    <svg className="mark" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect className="mark-ground" width="32" height="32" rx="9" />
      <path
        className="mark-front"
        d="M8 12.500A4.5 4.5 0 0 1 12.5 8h7a4.5 4.5 0 0 1 0 9h-4.600L11 20.600V17A4.5 4.5 0 0 1 8 12.500Z"
      />
      <path className="mark-back" d="M23.600 15.600a4 4 0 0 1-.6 7.400v2.600L20 23h-4.400a4 4 0 0 1-3-1.400" />
    </svg>
  );
}
